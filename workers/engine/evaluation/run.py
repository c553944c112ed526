"""One evaluation: base beside tuned on the same held-out rows, by the recipe that trained the adapter."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal, cast

from app.contracts.errors import usage
from app.contracts.figures import Figure
from app.contracts.reports import Evaluation, LeakedRows, ModelScores, Report, Stopped
from app.contracts.specs import AdapterRef, EvalSpec
from workers.engine.base_model import ResidentBase
from workers.engine.evaluation.chat import evaluate_chat
from workers.engine.evaluation.expected import with_expectations
from workers.engine.evaluation.heads import evaluate_head
from workers.engine.evaluation.heldout import Heldout
from workers.engine.evaluation.preference import evaluate_preference
from workers.engine.evaluation.progress import EvaluationProgress, StopRequestedError
from workers.engine.evaluation.summaries import evaluate_summaries
from workers.engine.inference.adapters import load_verified_adapter
from workers.engine.recipes.open import open_recipe
from workers.engine.recipes.recipe import EncodedRows
from workers.engine.recipes.rows import read_rows
from workers.engine.training.lora import AdapterWeights

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
    adapter = _load(resident, spec, spec.adapter)
    against = None if spec.against is None else _load(resident, spec, spec.against)
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
    heldout = Heldout(resident, spec, recipe, rows, encoded, progress, against)
    found = _score_apart(heldout, adapter) if spec.leaked_lines else _score(heldout, adapter)
    found = with_expectations(heldout, adapter, found)
    return found if heldout.base_is is None else found.model_copy(update={"base_is": heldout.base_is})


def _load(resident: ResidentBase, spec: EvalSpec, ref: AdapterRef) -> AdapterWeights:
    """The adapter; usage failure where it was trained for another task or other labels."""
    adapter = load_verified_adapter(resident, ref)
    is_head = spec.recipe.endswith("_classification")
    if is_head and (adapter.task is None or adapter.task.recipe != spec.recipe or adapter.task.labels != spec.labels):
        raise usage("task_differs", f"The adapter '{ref.id}' was not trained for this task and these labels.")
    return adapter


def _score_apart(heldout: Heldout, adapter: AdapterWeights) -> Evaluation:
    """The rows that count, and in `leaked` those that were trained on. Where all were, they are the figures too."""
    lines, rows = frozenset(heldout.spec.leaked_lines), heldout.encoded.rows
    clean = tuple(row for row in rows if row.line not in lines)
    leaked = tuple(row for row in rows if row.line in lines)
    if not leaked:
        return _score(heldout, adapter)
    if not clean:
        found = _score(heldout, adapter)
        return found.model_copy(update={"leaked": _leaked(found)})
    # In silence, and neither timed nor set beside rivals again: nothing but the models' figures is wanted of them.
    quiet = EvaluationProgress(heldout.spec.run_id, lambda _report: None, heldout.progress.should_stop)
    spec = heldout.spec.model_copy(update={"latency_rows": 1, "train_rows": None})
    apart = _score(replace(heldout, spec=spec, encoded=EncodedRows(leaked, ()), progress=quiet), adapter)
    counted = EncodedRows(clean, heldout.encoded.dropped)
    return _score(replace(heldout, encoded=counted), adapter).model_copy(update={"leaked": _leaked(apart)})


def _leaked(found: Evaluation) -> LeakedRows:
    return LeakedRows(rows=found.rows, base=_not_times(found.base), tuned=_not_times(found.tuned))


def _not_times(scores: ModelScores) -> tuple[Figure, ...]:
    return tuple(figure for figure in scores.figures if not figure.name.endswith("_ms"))


def _score(heldout: Heldout, adapter: AdapterWeights) -> Evaluation:
    match heldout.spec.recipe:
        case "chat":
            return evaluate_chat(heldout, adapter)
        case "preference":
            return evaluate_preference(heldout, adapter)
        case "summarization":
            return evaluate_summaries(heldout, adapter)
        case _:
            return evaluate_head(heldout, adapter)
