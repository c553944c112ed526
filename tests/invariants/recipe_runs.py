"""One small job for each recipe, and runs of it seen from outside: reports, and files on disk."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from app.contracts.reports import Encoded, Finished, Metric, Report
from app.contracts.rows import ChatMessage, LabelledText, PreferenceRow, Row, Span, TaggedText, TextPair
from app.contracts.specs import AdapterRef, BaseRef, DpoSpec, EvalSpec, LoraSpec, OptimizerSpec, TrainSpec
from tests.support.tiny_encoders import build_tiny_encoder
from tests.support.tiny_models import build_tiny_base
from tests.support.tiny_seq2seq import build_seq2seq_base
from tests.workers.engine.conftest import ticket_rows, write_rows
from workers.engine.base_model import ResidentBase
from workers.engine.recipes.open import open_recipe
from workers.engine.recipes.recipe import Recipe
from workers.engine.training.loop import train

QUEUES = ("billing", "delivery", "repair", "returns")


def _text(place: int) -> str:
    return f"ticket {place}: " + "my parcel is late. " * (place % 5) + QUEUES[place % 4]


def labelled_rows(count: int) -> tuple[LabelledText, ...]:
    return tuple(LabelledText(line=i + 1, text=_text(i), labels=(QUEUES[i % 4],)) for i in range(count))


def multi_labelled_rows(count: int) -> tuple[LabelledText, ...]:
    """No label, one, two or three."""
    return tuple(LabelledText(line=i + 1, text=_text(i), labels=QUEUES[: i % 4]) for i in range(count))


def tagged_rows(count: int) -> tuple[TaggedText, ...]:
    rows = []
    for i in range(count):
        text, word = _text(i), QUEUES[i % 4]
        rows.append(
            TaggedText(line=i + 1, text=text, spans=(Span(start=len(text) - len(word), end=len(text), label="QUEUE"),))
        )
    return tuple(rows)


def preference_rows(count: int) -> tuple[PreferenceRow, ...]:
    """Both answers of different lengths, after a turn of the assistant that is not learned."""
    return tuple(
        PreferenceRow(
            line=i + 1,
            messages=(
                ChatMessage(role="user", content="hello " * (i % 3)),
                ChatMessage(role="assistant", content="how can I help?"),
                ChatMessage(role="user", content=_text(i)),
            ),
            preferred=ChatMessage(role="assistant", content=QUEUES[i % 4]),
            non_preferred=ChatMessage(role="assistant", content=("no", "I cannot say that")[i % 2]),
        )
        for i in range(count)
    )


def pair_rows(count: int) -> tuple[TextPair, ...]:
    return tuple(TextPair(line=i + 1, source=_text(i), target=f"{QUEUES[i % 4]} " * (1 + i % 3)) for i in range(count))


@dataclass(frozen=True)
class RecipeJob:
    """What a recipe needs to be trained: a base of the right family, rows, its own settings."""

    name: str
    family: str
    make_rows: Callable[[int], Sequence[Row]]
    settings: dict[str, Any] = field(default_factory=dict)

    def weight(self, row: Any) -> int:
        """What an encoded row counts for in the mean loss: its learned tokens or words, a text, a pair."""
        return 1 if self.name == "preferences" else int(row.supervised_tokens)

    def open(self, resident: ResidentBase) -> Recipe:
        """Its recipe, for what cannot be seen from outside."""
        settings = self.settings
        return open_recipe(
            resident,
            settings.get("recipe", "chat"),
            labels=settings.get("labels"),
            is_multi_label=settings.get("is_multi_label", False),
            dpo=settings.get("dpo"),
        )


CHAT = RecipeJob("chat", "decoder", ticket_rows)
TEXT = RecipeJob("text", "encoder", labelled_rows, {"recipe": "text_classification", "labels": QUEUES})
TEXT_ON_DECODER = RecipeJob(
    "text on a decoder", "decoder", labelled_rows, {"recipe": "text_classification", "labels": QUEUES}
)
MULTI = RecipeJob(
    "texts with many labels",
    "encoder",
    multi_labelled_rows,
    {"recipe": "text_classification", "labels": QUEUES, "is_multi_label": True},
)
TOKENS = RecipeJob("tokens", "encoder", tagged_rows, {"recipe": "token_classification", "labels": ("QUEUE",)})
PREFERENCES = RecipeJob(
    "preferences", "decoder", preference_rows, {"recipe": "preference", "dpo": DpoSpec(beta=0.3), "token_budget": 300}
)
SUMMARIES = RecipeJob("summaries", "encoder_decoder", pair_rows, {"recipe": "summarization"})
JOBS = (CHAT, TEXT, TEXT_ON_DECODER, MULTI, TOKENS, PREFERENCES, SUMMARIES)


def build_base(job: RecipeJob, folder: Path) -> BaseRef:
    """A tiny base of the job's family."""
    if job.family == "encoder":
        return build_tiny_encoder(folder)
    return build_seq2seq_base(folder, "t5") if job.family == "encoder_decoder" else build_tiny_base(folder)


def encode(job: RecipeJob, resident: ResidentBase, rows: Sequence[Row]) -> tuple[Recipe, tuple[Any, ...]]:
    """The job's recipe, begun against the base alone, and the rows as it packs them."""
    recipe = job.open(resident)
    encoded = recipe.encode(rows, max_length=256, on_progress=lambda _done: None).rows
    nothing = resident.linears.new_adapter(LoraSpec(rank=1), recipe.vectors)
    recipe.begin(nothing, encoded, (), is_fresh=False, poll=lambda: None)
    return recipe, encoded


def evaluation_spec(spec: TrainSpec, found: "Run", rows: str | None = None) -> EvalSpec:
    """An evaluation of a run's result, on the rows it was validated on if none are named."""
    return EvalSpec(
        run_id="eval-1",
        base=spec.base,
        adapter=AdapterRef(id="tuned", path=found.finished.adapter_path, sha256=found.finished.adapter_sha256),
        recipe=spec.recipe,
        labels=spec.labels,
        is_multi_label=spec.is_multi_label,
        dpo=spec.dpo,
        rows=rows or str(spec.valid_rows),
        max_length=256,
        latency_rows=1,
        latency_new_tokens=2,
    )


def make_spec(
    job: RecipeJob,
    resident: ResidentBase,
    folder: Path,
    *,
    rows: int | Sequence[Row] = 12,
    valid: int | Sequence[Row] = 0,
    selection: int | Sequence[Row] = 0,
    **changes: Any,
) -> TrainSpec:
    """Rows of unequal lengths, dropout, two epochs, a checkpoint at the end of each."""

    def write(name: str, wanted: int | Sequence[Row]) -> tuple[str, str]:
        path = folder / f"{name}.jsonl"
        return str(path), write_rows(path, job.make_rows(wanted) if isinstance(wanted, int) else wanted)  # type: ignore[arg-type]

    train_rows, sha256 = write("train", rows)
    fields: dict[str, Any] = {
        "run_id": "run-1",
        "base": resident.ref,
        "train_rows": train_rows,
        "train_rows_sha256": sha256,
        "valid_rows": write("valid", valid)[0] if valid else None,
        "selection_rows": write("selection", selection)[0] if selection else None,
        "output_dir": str(folder / "out"),
        "lora": LoraSpec(rank=4, alpha=8, dropout=0.1),
        "optimizer": OptimizerSpec(learning_rate=5e-3),
        "batch_size": 4,
        "n_epochs": 2,
        "seed": 7,
        "max_length": 256,
        "token_budget": 150,
        "resume_checkpoint_seconds": 1000,
    }
    return TrainSpec.model_validate(fields | job.settings | changes)


class Crash(BaseException):
    """As sudden as a kill: nothing in the engine may catch it."""


@dataclass
class Run:
    """What a run said."""

    reports: list[Report] = field(default_factory=list)

    def of_kind(self, kind: str) -> list[Any]:
        return [report for report in self.reports if report.kind == kind]

    @property
    def encoded(self) -> Encoded:
        (encoded,) = self.of_kind("encoded")
        return encoded  # type: ignore[no-any-return]

    @property
    def metrics(self) -> list[Metric]:
        return self.of_kind("metric")

    @property
    def finished(self) -> Finished:
        (finished,) = self.of_kind("finished")
        return finished  # type: ignore[no-any-return]


def run(resident: ResidentBase, spec: TrainSpec, should_stop: Callable[[], str | None] = lambda: None) -> Run:
    found = Run()
    train(resident, spec, found.reports.append, should_stop)
    return found


def started_adapter(job: RecipeJob, resident: ResidentBase, folder: Path) -> dict[str, str]:
    """An adapter whose every weight is in motion, to start another run from: its reference."""
    finished = run(resident, make_spec(job, resident, folder, lora=LoraSpec(rank=4, alpha=8))).finished
    return {"id": "first", "path": finished.adapter_path, "sha256": finished.adapter_sha256}


def first_gradient(
    job: RecipeJob, resident: ResidentBase, folder: Path, initial_adapter: dict[str, str], **changes: Any
) -> tuple[torch.Tensor, Run]:
    """The gradient of the first step, laid out as the adapter's buffer, from Adam's first moment on disk."""
    spec = make_spec(
        job,
        resident,
        folder,
        rows=8,
        batch_size=8,
        n_epochs=1,
        initial_adapter=initial_adapter,
        lora=LoraSpec(rank=4, alpha=8),
        optimizer=OptimizerSpec(learning_rate=1e-5, max_grad_norm=1e9),
        **changes,
    )
    found = run(resident, spec)
    assert len(found.metrics) == 1
    moments = load_file(folder / "out" / "checkpoints" / "step-000001" / "optimizer.safetensors")
    return moments["exp_avg"] / (1 - spec.optimizer.beta1), found
