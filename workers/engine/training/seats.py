"""A seat: one job's adapter, optimiser, schedule, data cursor and metrics on a resident base."""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save

from app.contracts.errors import fatal, usage
from app.contracts.reports import Encoded, Metric, Progress, Report
from app.contracts.rows import ChatRow
from app.contracts.specs import TrainSpec
from workers.engine.base_model import ResidentBase
from workers.engine.recipes.chat import EncodedRows, encode_rows, read_rows, require_rows
from workers.engine.recipes.templates import EncodedRow
from workers.engine.training import batches, checkpoint
from workers.engine.training.adapter_files import encode_adapter, load_adapter, weights_sha256
from workers.engine.training.lora import AdapterWeights

_ENCODE_PROGRESS_ROWS = 200
_CPU_TOKEN_BUDGET, _GPU_TOKEN_BUDGET = 2048, 8192
# What may differ between two attempts at the same training.
_NOT_COMPARED = {"run_id", "train_rows", "valid_rows", "output_dir", "resume_from"} | {
    "resume_checkpoint_seconds",
    "deadline_seconds",
}


DEADLINE = "deadline"


class StopRequestedError(Exception):
    """The supervisor, or the deadline, wants this run to end at the next micro-batch."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass
class Seat:
    """Everything that belongs to one training run; the loop knows nothing else of a job."""

    spec: TrainSpec
    adapter: AdapterWeights
    optimizer: torch.optim.AdamW
    rows: tuple[EncodedRow, ...]
    valid_rows: tuple[EncodedRow, ...]
    token_budget: int
    report: Callable[[Report], None]
    should_stop: Callable[[], str | None]
    step: int = 0  # optimizer steps finished
    trained_tokens: int = 0
    train_seconds: float = 0.0
    last_metric: Metric | None = None
    is_validation_pending: bool = False
    epoch_end_steps: list[int] = field(default_factory=list)
    opened_at: float = field(default_factory=time.monotonic)
    opened_at_step: int = 0
    saved_at: float = field(default_factory=time.monotonic)
    saved_step: int = 0

    @property
    def steps_per_epoch(self) -> int:
        return batches.steps_per_epoch(len(self.rows), self.spec.batch_size)

    @property
    def total_steps(self) -> int:
        return self.steps_per_epoch * self.spec.n_epochs

    @property
    def checkpoints(self) -> Path:
        return Path(self.spec.output_dir) / "checkpoints"

    @property
    def is_epoch_end(self) -> bool:
        return self.step > 0 and self.step % self.steps_per_epoch == 0

    @property
    def is_finished(self) -> bool:
        return self.step >= self.total_steps

    def poll_stop(self) -> None:
        """Raise `StopRequestedError` when told to stop, or when this attempt's deadline has passed."""
        reason = self.should_stop()
        deadline = self.spec.deadline_seconds
        if reason is None and deadline is not None and time.monotonic() - self.opened_at > deadline:
            reason = DEADLINE
        if reason is not None:
            raise StopRequestedError(reason)

    def save(self, *, base_id: str) -> checkpoint.CheckpointFolder:
        """Write a checkpoint of the last finished step and drop those no longer needed."""
        if self.is_epoch_end and self.step not in self.epoch_end_steps:
            self.epoch_end_steps.append(self.step)
        slots = self.optimizer.state[self.adapter.flat]
        moments = {name: checkpoint.plain(slots[name]) for name in ("exp_avg", "exp_avg_sq", "step")}
        moments["weights"] = checkpoint.plain(self.adapter.flat)
        folder = checkpoint.write(
            self.checkpoints,
            step=self.step,
            state=self._state(),
            adapter=encode_adapter(self.adapter, base_id),
            optimizer=save(moments),
        )
        checkpoint.prune(self.checkpoints, keep_last=2, keep_steps=self.epoch_end_steps)
        self.saved_at, self.saved_step = time.monotonic(), self.step
        return folder

    def _state(self) -> dict[str, Any]:
        return {
            "version": 1,
            "fingerprint": fingerprint(self.spec),
            "step": self.step,
            "epoch": self.step // self.steps_per_epoch,
            "step_in_epoch": self.step % self.steps_per_epoch,
            "seed": self.spec.seed,
            "token_budget": self.token_budget,
            "trained_tokens": self.trained_tokens,
            "train_seconds": self.train_seconds,
            "epoch_end_steps": self.epoch_end_steps,
            "is_validation_pending": self.is_validation_pending,
            "last_metric": None if self.last_metric is None else self.last_metric.model_dump(mode="json"),
            "torch": torch.__version__,
        }

    def restore(self, found: checkpoint.CheckpointFolder) -> None:
        """Continue from `found`; fatal failure when it belongs to another training."""
        state = found.state
        if state["fingerprint"] != fingerprint(self.spec):
            raise fatal(
                "checkpoint_mismatch",
                "The checkpoint belongs to another base, data set or setting; start this job afresh.",
            )
        saved = load_file(found.optimizer_path)
        with torch.no_grad():
            self.adapter.flat.copy_(saved["weights"])
        self.adapter.refresh()
        self.optimizer.state[self.adapter.flat] = {
            "step": saved["step"],
            "exp_avg": saved["exp_avg"].to(self.adapter.flat.device),
            "exp_avg_sq": saved["exp_avg_sq"].to(self.adapter.flat.device),
        }
        self.step = self.opened_at_step = self.saved_step = state["step"]
        self.trained_tokens = state["trained_tokens"]
        self.train_seconds = state["train_seconds"]
        self.epoch_end_steps = state["epoch_end_steps"]
        self.is_validation_pending = state["is_validation_pending"]
        self.token_budget = state["token_budget"]
        if state["last_metric"] is not None:
            self.last_metric = Metric.model_validate(state["last_metric"])


def fingerprint(spec: TrainSpec) -> str:
    """SHA-256 of what decides the result: base, data, seed and every setting of the training."""
    compared = spec.model_dump(mode="json", exclude=_NOT_COMPARED)
    compared["base"].pop("path")
    if compared["initial_adapter"] is not None:
        compared["initial_adapter"].pop("path")
    return hashlib.sha256(repr(sorted(compared.items())).encode()).hexdigest()


def open_seat(
    resident: ResidentBase,
    spec: TrainSpec,
    report: Callable[[Report], None],
    should_stop: Callable[[], str | None],
) -> Seat:
    """Encode the data, make the adapter and restore the checkpoint named by `spec.resume_from`.

    Raises `StopRequestedError` when told to stop while encoding.
    """
    rows = read_rows(Path(spec.train_rows), spec.train_rows_sha256)
    encoded = _encode(resident, spec, rows, report, should_stop)
    require_rows(encoded, param="training_file")
    valid: tuple[EncodedRow, ...] = ()
    if spec.valid_rows is not None:
        encoded_valid = _encode(resident, spec, read_rows(Path(spec.valid_rows)), report, should_stop)
        require_rows(encoded_valid, param="validation_file")
        valid = encoded_valid.rows
        if encoded_valid.dropped:
            message = f"{len(encoded_valid.dropped)} of {encoded_valid.rows_in} validation rows left out, first: "
            message += "line {}: {}".format(*encoded_valid.dropped[0])
            done = encoded_valid.rows_in
            report(Progress(run_id=spec.run_id, phase="encode", done=done, total=done, message=message))
    adapter = _new_adapter(resident, spec)
    optimizer = torch.optim.AdamW(
        [adapter.flat],
        lr=spec.optimizer.learning_rate,
        betas=(spec.optimizer.beta1, spec.optimizer.beta2),
        eps=spec.optimizer.epsilon,
        weight_decay=spec.optimizer.weight_decay,
        fused=True,
    )
    default_budget = _CPU_TOKEN_BUDGET if resident.device.type == "cpu" else _GPU_TOKEN_BUDGET
    seat = Seat(
        spec=spec,
        adapter=adapter,
        optimizer=optimizer,
        rows=encoded.rows,
        valid_rows=valid,
        token_budget=spec.token_budget or default_budget,
        report=report,
        should_stop=should_stop,
    )
    found = checkpoint.load_latest(Path(spec.resume_from)) if spec.resume_from is not None else None
    if found is not None:
        seat.restore(found)
    report(_account(seat, encoded))
    return seat


def _encode(
    resident: ResidentBase,
    spec: TrainSpec,
    rows: tuple[ChatRow, ...],
    report: Callable[[Report], None],
    should_stop: Callable[[], str | None],
) -> EncodedRows:

    def on_progress(done: int) -> None:
        if done % _ENCODE_PROGRESS_ROWS == 0 or done == len(rows):
            report(Progress(run_id=spec.run_id, phase="encode", done=done, total=len(rows)))
        reason = should_stop()
        if reason is not None:
            raise StopRequestedError(reason)

    return encode_rows(resident, rows, max_length=spec.max_length, on_progress=on_progress)


def _new_adapter(resident: ResidentBase, spec: TrainSpec) -> AdapterWeights:
    """Fresh weights from the seed, or those of `spec.initial_adapter`, checked against its hash."""
    if spec.initial_adapter is None:
        adapter = resident.linears.new_adapter(spec.lora)
        adapter.initialise(torch.Generator().manual_seed(spec.seed))
        return adapter
    folder = Path(spec.initial_adapter.path)
    if weights_sha256(folder) != spec.initial_adapter.sha256:
        raise usage("invalid_adapter", f"The files of adapter '{spec.initial_adapter.id}' do not have the stated hash.")
    return load_adapter(resident.linears, folder, dropout=spec.lora.dropout)


def _account(seat: Seat, encoded: EncodedRows) -> Encoded:
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
        targets=tuple(sorted({name.rsplit(".", 1)[-1] for name in seat.adapter.shapes})),
    )
