"""Opens a seat: encode the data, make the adapter, restore the checkpoint, and say what became of every row."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from app.contracts.errors import usage
from app.contracts.reports import Encoded, Progress, Report
from app.contracts.specs import AdapterTask, TrainSpec
from workers.engine.base_model import ResidentBase
from workers.engine.recipes.open import open_recipe
from workers.engine.recipes.recipe import Beginning, EncodedRows, Recipe, require_rows
from workers.engine.recipes.rows import read_rows
from workers.engine.training import checkpoint, memory
from workers.engine.training.adapter_files import load_adapter, read_task, weights_sha256
from workers.engine.training.full import FullWeights
from workers.engine.training.lora import AdapterWeights, LowRankWeights
from workers.engine.training.rehearsal import rehearse
from workers.engine.training.seats import CROWDED, Seat, StopRequestedError

_ENCODE_PROGRESS_ROWS = 200
_PROGRESS_SECONDS = 5.0
_SHOWN_SUSPECTS = 500


def open_seat(
    resident: ResidentBase,
    spec: TrainSpec,
    report: Callable[[Report], None],
    should_stop: Callable[[], str | None],
    *,
    beside: Sequence[Seat] = (),
) -> Seat:
    """Everything a run needs before its first step, or before going on from `spec.resume_from`.

    Raises `StopRequestedError` when told to stop while encoding, or where memory lacks with the seats `beside`
    (`crowded`).
    """
    recipe = open_recipe(resident, spec.recipe, labels=spec.labels, is_multi_label=spec.is_multi_label, dpo=spec.dpo)
    opening = _Opening(resident, spec, recipe, report, should_stop)
    encoded = opening.encode(spec.train_rows, "training_file", sha256=spec.train_rows_sha256)
    valid = () if spec.valid_rows is None else opening.encode(spec.valid_rows, "validation_file").rows
    selecting = valid if spec.selection_rows is None else opening.encode(spec.selection_rows, "training_file").rows
    lengths = {row.tokens for row in (*encoded.rows, *valid, *selecting)}
    room = memory.plan(resident, spec, lengths=lengths)
    if beside and not memory.fit_together([room, *(seat.memory for seat in beside if seat.memory is not None)]):
        raise StopRequestedError(CROWDED)
    adapter = _new_adapter(resident, spec, recipe)
    adapter.task = _task(spec)
    optimizer = torch.optim.AdamW(
        [adapter.flat],
        lr=spec.optimizer.learning_rate,
        betas=(spec.optimizer.beta1, spec.optimizer.beta2),
        eps=spec.optimizer.epsilon,
        weight_decay=spec.optimizer.weight_decay,
        fused=True,
    )
    seat = Seat(
        spec=spec,
        recipe=recipe,
        adapter=adapter,
        optimizer=optimizer,
        rows=encoded.rows,
        valid_rows=valid or selecting,
        selection_rows=selecting,
        token_budget=room.token_budget,
        report=report,
        should_stop=should_stop,
        memory=room,
    )
    found = checkpoint.load_latest(Path(spec.resume_from)) if spec.resume_from is not None else None
    if found is not None:
        seat.refuse_other_training(found)
    others = [*valid, *(selecting if selecting is not valid else ())]
    is_fresh = found is None and spec.initial_adapter is None
    # Before the checkpoint's weights come: the starting ones are the reference of a preference run.
    beginning = recipe.begin(adapter, encoded.rows, others, is_fresh=is_fresh, poll=opening.poll)
    if room.is_tight:
        rehearse(resident, seat)
    if found is not None:
        seat.restore(found)
    said = [("info", room.sentence), *_method_notes(resident, adapter), *(("info", note) for note in beginning.notes)]
    report(_account(seat, encoded, beginning, said))
    return seat


@dataclass
class _Opening:
    """One run on its way to the first step: polled and heard of while it encodes."""

    resident: ResidentBase
    spec: TrainSpec
    recipe: Recipe
    report: Callable[[Report], None]
    should_stop: Callable[[], str | None]
    told_at: float = 0.0

    def encode(self, path: str, param: str, *, sha256: str | None = None) -> EncodedRows:
        """All rows of a file, at least one of them trainable."""
        rows = read_rows(Path(path), self.spec.recipe, sha256)

        def on_progress(done: int) -> None:
            if done % _ENCODE_PROGRESS_ROWS == 0 or done == len(rows):
                self._say(done, len(rows))
            self._stop_if_wanted()

        encoded = self.recipe.encode(rows, max_length=self.spec.max_length, on_progress=on_progress)
        require_rows(encoded, param=param)
        if encoded.dropped and sha256 is None:  # of the training rows each is accounted for in `Encoded`
            message = f"{len(encoded.dropped)} of {encoded.rows_in} validation rows left out, first: "
            self._say(encoded.rows_in, encoded.rows_in, message + "line {}: {}".format(*encoded.dropped[0]))
        return encoded

    def poll(self) -> None:
        """A sign of life now and then, and the end if it is wanted."""
        self._stop_if_wanted()
        if time.monotonic() - self.told_at > _PROGRESS_SECONDS:
            self._say(0, 0)

    def _say(self, done: int, total: int, message: str = "") -> None:
        self.told_at = time.monotonic()
        self.report(Progress(run_id=self.spec.run_id, phase="encode", done=done, total=total, message=message))

    def _stop_if_wanted(self) -> None:
        reason = self.should_stop()
        if reason is not None:
            raise StopRequestedError(reason)


def _new_adapter(resident: ResidentBase, spec: TrainSpec, recipe: Recipe) -> AdapterWeights:
    """Fresh weights from the seed, or those of `spec.initial_adapter`, checked against its hash."""
    if spec.tuning == "full" and resident.quantization != "none":
        raise usage(
            "tuning_unavailable",
            f"The weights of a base in {resident.quantization} cannot be trained themselves. "
            "Train an adapter, or leave quantization out.",
            param="quantization",
        )
    if spec.initial_adapter is None:
        if spec.tuning == "full":
            return FullWeights(resident.linears, recipe.vectors)
        fresh = resident.linears.new_adapter(spec.lora, recipe.vectors)
        fresh.initialise(torch.Generator().manual_seed(spec.seed))
        return fresh
    folder = Path(spec.initial_adapter.path)
    if weights_sha256(folder) != spec.initial_adapter.sha256:
        raise usage("invalid_adapter", f"The files of adapter '{spec.initial_adapter.id}' do not have the stated hash.")
    trained = read_task(folder).tuning
    if trained != spec.tuning:
        raise usage(
            "tuning_differs",
            f"The model '{spec.initial_adapter.id}' was trained with tuning '{trained}', and this job asks for "
            f"'{spec.tuning}'. Continue with '{trained}', or train on the base itself.",
            param="model",
        )
    adapter = load_adapter(resident.linears, folder, dropout=spec.lora.dropout)
    has_head = bool(adapter.vectors) or bool(recipe.vectors)
    trained_for = adapter.task and adapter.task.model_copy(update={"calibration": None})
    if has_head and trained_for != _task(spec):
        raise usage(
            "task_differs",
            f"The model '{spec.initial_adapter.id}' was trained for another task or for other labels than this job's. "
            "Train on the base itself.",
            param="model",
        )
    return adapter


def _task(spec: TrainSpec) -> AdapterTask:
    return AdapterTask(recipe=spec.recipe, tuning=spec.tuning, labels=spec.labels, is_multi_label=spec.is_multi_label)


def _account(seat: Seat, encoded: EncodedRows, beginning: Beginning, notes: list[Any]) -> Encoded:
    return Encoded(
        run_id=seat.spec.run_id,
        rows_in=encoded.rows_in,
        rows_trained=len(encoded.rows),
        dropped=encoded.dropped,
        truncated=encoded.truncated,
        tokens=encoded.tokens,
        supervised_tokens=encoded.supervised_tokens,
        longest=encoded.longest,
        total_steps=seat.total_steps,
        trainable_parameters=seat.adapter.parameter_count,
        targets=seat.adapter.trained_layers,
        suspect_labels=beginning.suspect_labels[:_SHOWN_SUSPECTS],
        suspect_label_count=len(beginning.suspect_labels),
        learning_curve=beginning.learning_curve,
        notes=tuple(notes),
    )


def _method_notes(resident: ResidentBase, adapter: AdapterWeights) -> list[tuple[str, str]]:
    """What the job's owner should know of the method: (level, sentence)."""
    if isinstance(adapter, FullWeights):
        sentence = (
            "Every weight is trained. "
            "The result is a whole model, which shares no batch with other models when it is served."
        )
        return [("warn", sentence)]
    notes = []
    if isinstance(adapter, LowRankWeights) and adapter.variant == "dora":
        notes.append(("warn", "vLLM serves no DoRA adapters; Tunesmith's own server and PEFT do."))
    if resident.quantization != "none":
        sentence = (
            f"The base's linear layers are held in 4 bits ({resident.quantization}) while training; "
            "evaluation and serving use the base as it is."
        )
        notes.append(("info", sentence))
    return notes
