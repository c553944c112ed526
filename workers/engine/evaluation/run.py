"""One evaluation: base beside tuned on the same held-out rows, by the recipe that trained the adapter."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal, cast

from app.contracts.errors import usage
from app.contracts.reports import Evaluation, Report, Stopped
from app.contracts.specs import EvalSpec
from workers.engine.base_model import ResidentBase
from workers.engine.evaluation.chat import evaluate_chat
from workers.engine.evaluation.heads import evaluate_head
from workers.engine.evaluation.heldout import Heldout
from workers.engine.evaluation.preference import evaluate_preference
from workers.engine.evaluation.progress import EvaluationProgress, StopRequestedError
from workers.engine.evaluation.summaries import evaluate_summaries
from workers.engine.inference.adapters import load_verified_adapter
from workers.engine.recipes.open import open_recipe
from workers.engine.recipes.rows import read_rows

StopReason = Literal["cancel", "pause", "preempt", "shutdown"]


def evaluate(
    resident: ResidentBase,
    spec: EvalSpec,
    report: Callable[[Report], None],
    should_stop: Callable[[], str | None],
) -> None:
    """From rows on disk to one `Evaluation` report, or `Stopped`. Failures are `WorkerFailure`s."""
    progress = EvaluationProgress(spec.run_id, report, should_stop)
    try:
        report(_evaluate(resident, spec, progress))
    except StopRequestedError as stop:
        report(Stopped(run_id=spec.run_id, reason=cast("StopReason", str(stop)), step=0))


def _evaluate(resident: ResidentBase, spec: EvalSpec, progress: EvaluationProgress) -> Evaluation:
    adapter = load_verified_adapter(resident, spec.adapter)
    recipe = open_recipe(resident, spec.recipe, labels=spec.labels, is_multi_label=spec.is_multi_label, dpo=spec.dpo)
    rows = read_rows(Path(spec.rows), spec.recipe)
    encoded = recipe.encode(rows, max_length=spec.max_length, on_progress=progress.on_encoded(len(rows)))
    if not encoded.rows:
        reasons = "; ".join(f"line {line}: {reason}" for line, reason in encoded.dropped[:3])
        raise usage(
            "no_evaluation_rows",
            f"None of the {len(rows)} held-out rows can be evaluated ({reasons or 'the file is empty'}).",
            param="validation_file",
        )
    heldout = Heldout(resident, spec, recipe, rows, encoded, progress)
    match spec.recipe:
        case "chat":
            return evaluate_chat(heldout, adapter)
        case "preference":
            return evaluate_preference(heldout, adapter)
        case "summarization":
            return evaluate_summaries(heldout, adapter)
        case _:
            return evaluate_head(heldout, adapter)
