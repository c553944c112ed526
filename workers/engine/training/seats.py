"""A seat: one job's adapter, optimiser, schedule, data cursor and metrics on a resident base."""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from app.contracts.errors import fatal
from app.contracts.reports import METRIC_LOG, Metric, Report
from app.contracts.specs import LabelCalibration, TrainSpec
from workers.engine.base_model import Family
from workers.engine.recipes.recipe import Recipe
from workers.engine.training import batches, checkpoint
from workers.engine.training.adapter_files import encode_adapter, read_probe
from workers.engine.training.lora import AdapterWeights
from workers.engine.training.memory import MemoryEstimate
from workers.engine.training.selection import Selection
from workers.engine.training.synced_files import TensorFile

# What may differ between two attempts at the same training.
_NOT_COMPARED = {"run_id", "train_rows", "valid_rows", "selection_rows", "output_dir", "resume_from"} | {
    "resume_checkpoint_seconds",
    "deadline_seconds",
}
_RESUME_CHECKPOINTS = 2
DEADLINE, CROWDED = "deadline", "crowded"


class StopRequestedError(Exception):
    """The supervisor, the deadline or want of memory beside others ends this run at the next micro-batch."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass
class Seat:
    """Everything that belongs to one training run; the loop knows nothing else of a job."""

    spec: TrainSpec
    recipe: Recipe
    adapter: AdapterWeights
    optimizer: torch.optim.AdamW
    rows: tuple[Any, ...]
    valid_rows: tuple[Any, ...]
    """Their loss is shown."""
    selection_rows: tuple[Any, ...]
    """They choose the result; often the same as `valid_rows`."""
    token_budget: int
    report: Callable[[Report], None]
    should_stop: Callable[[], str | None]
    selection: Selection = field(default_factory=Selection)
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
    memory: MemoryEstimate | None = None
    is_whole: bool = True
    """What it has in memory is its last finished step; not so within an update or a save."""

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
        return self.step >= self.total_steps or self.selection.has_ended_run

    @property
    def result_step(self) -> int:
        """The step whose adapter is the result, once the run is over."""
        best = self.selection.best_step if self.spec.keeps_best else None
        return self.step if best is None else best

    def report_metric(self) -> None:
        """Report the last step's figures, and note them beside the checkpoints first."""
        metric = self.last_metric
        if metric is None:
            return
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        with (self.checkpoints / METRIC_LOG).open("ab") as log:
            log.write(metric.model_dump_json().encode() + b"\n")
        self.report(metric)

    def poll_stop(self) -> None:
        """Raise `StopRequestedError` when told to stop, or when this attempt's deadline has passed."""
        reason = self.should_stop()
        deadline = self.spec.deadline_seconds
        if reason is None and deadline is not None and time.monotonic() - self.opened_at > deadline:
            reason = DEADLINE
        if reason is not None:
            raise StopRequestedError(reason)

    def calibrate(self, found: LabelCalibration | None) -> None:
        """Let the adapter carry what the rows that chose it say of its sureness; None: nothing yet, for new weights.

        Where no rows were split off to choose, those of the validation file did, and they are judged in the end.
        """
        if self.adapter.task is not None and self.spec.selection_rows is not None:
            self.adapter.task = self.adapter.task.model_copy(update={"calibration": found})

    def save(self, family: Family) -> checkpoint.CheckpointFolder:
        """Write a checkpoint of the last finished step and drop those no longer needed."""
        if (self.is_epoch_end or self.is_finished) and self.step not in self.epoch_end_steps:
            self.epoch_end_steps.append(self.step)
        slots = self.optimizer.state[self.adapter.flat]
        moments = {name: slots[name] for name in ("exp_avg", "exp_avg_sq", "step")}
        best = self.result_step
        folder = checkpoint.write(
            self.checkpoints,
            step=self.step,
            state=self._state(),
            # By the name its own job has for the base: others on it may have another one.
            adapter=encode_adapter(self.adapter, self.spec.base.id, family),
            optimizer=TensorFile(moments | {"weights": self.adapter.flat}),
            # Another machine may finish the run with this checkpoint alone.
            best=None if best == self.step else checkpoint.step_folder(self.checkpoints, best),
        )
        kept = {*self.epoch_end_steps[-self.spec.keep_checkpoints :], best}
        checkpoint.prune(self.checkpoints, keep_last=_RESUME_CHECKPOINTS, keep_steps=kept)
        self.saved_at, self.saved_step = time.monotonic(), self.step
        return folder

    def _state(self) -> dict[str, Any]:
        return {
            "version": 2,
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
            "selection": self.selection.state(),
            "last_metric": None if self.last_metric is None else self.last_metric.model_dump(mode="json"),
            "torch": torch.__version__,
        }

    def refuse_other_training(self, found: checkpoint.CheckpointFolder) -> None:
        """Fatal failure `checkpoint_mismatch` when `found` belongs to another training."""
        state = found.state
        if state["version"] != 2 or state["fingerprint"] != fingerprint(self.spec):
            raise fatal(
                "checkpoint_mismatch",
                "The checkpoint belongs to another base, data set or setting, or to an older version; "
                "start this job afresh.",
            )

    def restore(self, found: checkpoint.CheckpointFolder) -> None:
        """Continue from `found`, a checkpoint of this training."""
        state = found.state
        saved = load_file(found.optimizer_path)
        with torch.no_grad():
            self.adapter.flat.copy_(saved["weights"])
        self.adapter.refresh()
        self.optimizer.state[self.adapter.flat] = {
            "step": saved["step"].to(self.adapter.flat.device),
            "exp_avg": saved["exp_avg"].to(self.adapter.flat.device),
            "exp_avg_sq": saved["exp_avg_sq"].to(self.adapter.flat.device),
        }
        self.step = self.opened_at_step = self.saved_step = state["step"]
        self.trained_tokens = state["trained_tokens"]
        self.train_seconds = state["train_seconds"]
        self.epoch_end_steps = state["epoch_end_steps"]
        self.is_validation_pending = state["is_validation_pending"]
        self.selection = Selection(**state["selection"])
        self.token_budget = state["token_budget"]
        if state["last_metric"] is not None:
            self.last_metric = Metric.model_validate(state["last_metric"])
        self.adapter.probe = read_probe(found.adapter_path)
        checkpoint.restore_best(self.checkpoints, found)


def fingerprint(spec: TrainSpec) -> str:
    """SHA-256 of what decides the result: base, data, seed and every setting of the training."""
    compared = spec.model_dump(mode="json", exclude=_NOT_COMPARED)
    compared["base"].pop("path")
    if compared["initial_adapter"] is not None:
        compared["initial_adapter"].pop("path")
    return hashlib.sha256(repr(sorted(compared.items())).encode()).hexdigest()
