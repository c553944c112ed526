"""The engine: takes commands in their order and keeps one base resident between them.

Trainings on the resident base have seats and take turns; everything else is done at one go, while seats wait.
"""

import gc
import os
import queue
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import FrameType
from typing import BinaryIO, cast

import torch
from pydantic import ValidationError

from app.contracts.errors import WorkerError
from app.contracts.reports import Failed, Progress, Ready, Report, Stopped
from app.contracts.specs import BaseRef, EvalSpec, Exit, LoadBase, Stop, TrainSpec
from workers.engine.base_model import ResidentBase, load_base
from workers.engine.evaluation.run import evaluate
from workers.engine.failures import failed
from workers.engine.machine import compute_capability, memory_bytes, pick_device, pick_dtype, release_memory
from workers.engine.protocol import read_commands
from workers.engine.training.loop import StopReason
from workers.engine.training.quantised import Quantization, require_available
from workers.engine.training.seating import Seating

_LOAD_RUN_ID = "load_base"
_REMEMBERED_RUNS = 256


_Received = tuple[TrainSpec | EvalSpec | LoadBase | Exit, "StopSignal"]


class StopSignal:
    """Set by the reader thread, polled by the run: why to stop, or None."""

    def __init__(self) -> None:
        self.reason: str | None = None

    def __call__(self) -> str | None:
        return self.reason


@dataclass
class Engine:
    """Runs commands on one device. `report` must be safe to call from any thread."""

    report: Callable[[Report], None]
    device: torch.device = field(default_factory=pick_device)
    resident: ResidentBase | None = None
    between: Callable[[], None] = lambda: None
    """Called between micro-batches of whatever runs."""

    def __post_init__(self) -> None:
        self.seating = Seating(self.report)

    def ready(self) -> Ready:
        return Ready(
            pid=os.getpid(),
            device=str(self.device),
            dtype=str(pick_dtype(self.device)).removeprefix("torch."),
            threads=torch.get_num_threads(),
            torch=torch.__version__,
            memory_bytes=memory_bytes(self.device),
            compute_capability=compute_capability(self.device),
        )

    def run(self, command: TrainSpec | EvalSpec | LoadBase, should_stop: StopSignal) -> None:
        """One command alone, to its last report."""
        self.begin(command, should_stop)
        while self.seating.is_taken:
            self.seating.take_turn()

    def can_begin(self, command: TrainSpec | EvalSpec | LoadBase | Exit) -> bool:
        """Whether it may begin now: at any time what is on the weights that seats train on, all else when none does."""
        if not self.seating.is_taken:
            return True
        return not isinstance(command, Exit) and self._is_resident(command.base, _quantization(command))

    def begin(self, command: TrainSpec | EvalSpec | LoadBase, should_stop: StopSignal) -> None:
        """Open a seat for a training, or do all of anything else. Nothing escapes: every failure becomes `Failed`."""
        run_id = _LOAD_RUN_ID if isinstance(command, LoadBase) else command.run_id

        def poll() -> str | None:
            self.between()
            self.seating.see_to_wishes()
            return should_stop()

        try:
            resident = self._make_resident(command.base, run_id, _quantization(command))
            match command:
                case TrainSpec():
                    self.seating.join(resident, command, should_stop, poll)
                case EvalSpec():
                    evaluate(resident, command, self.report, poll)
                case LoadBase():
                    pass
        except Exception as error:  # noqa: BLE001 the command edge: the engine outlives a failed run
            self.report(failed(run_id, error))
        # Not in the handler above: while it runs, its traceback keeps the tensors alive.
        release_memory(self.device)

    def _is_resident(self, ref: BaseRef, quantization: Quantization) -> bool:
        resident = self.resident
        wanted = (ref.weights_sha256, quantization)
        return resident is not None and (resident.ref.weights_sha256, resident.quantization) == wanted

    def _make_resident(self, ref: BaseRef, run_id: str, quantization: Quantization) -> ResidentBase:
        """The base asked for: the one in memory if it is the same weights in the same bits, else loaded now."""
        resident = self.resident
        if resident is not None and self._is_resident(ref, quantization):
            resident = self.resident = replace(resident, ref=ref)
            self.report(Progress(run_id=run_id, phase="load", done=1, total=1, message=ref.id))
            return resident
        require_available(quantization, self.device)
        self.report(Progress(run_id=run_id, phase="load", done=0, total=1, message=ref.id))
        self.resident = resident = None  # frees the old one before the new one comes
        gc.collect()
        self.resident = load_base(ref, self.device, quantization)
        self.report(Progress(run_id=run_id, phase="load", done=1, total=1, message=ref.id))
        return self.resident


def _quantization(command: TrainSpec | EvalSpec | LoadBase) -> Quantization:
    return command.quantization if isinstance(command, TrainSpec) else "none"


class CommandLoop:
    """Feeds an engine from a pipe: a reader thread takes commands while runs are in progress."""

    def __init__(self, engine: Engine, commands: BinaryIO) -> None:
        self._engine = engine
        self._commands = commands
        self._queue: queue.SimpleQueue[_Received] = queue.SimpleQueue()
        self._waiting: deque[_Received] = deque()
        self._signals: dict[str, StopSignal] = {}  # of the last runs, by name
        engine.between = self._drop_unwanted

    def serve(self) -> None:
        """Until `Exit` or SIGTERM. End of the pipe means the supervisor died: leave at once.

        Commands begin in their order; one that cannot yet holds up those behind it, so that its turn comes.
        """
        signal.signal(signal.SIGTERM, self._on_sigterm)
        threading.Thread(target=self._read, name="commands", daemon=True).start()
        engine = self._engine
        engine.report(engine.ready())
        while True:
            if not self._waiting and not engine.seating.is_taken:
                self._waiting.append(self._queue.get())
            self._drop_unwanted()
            if not self._waiting or not engine.can_begin(self._waiting[0][0]):
                if engine.seating.is_taken:
                    engine.seating.take_turn()
                continue
            command, should_stop = self._waiting.popleft()
            if isinstance(command, Exit):
                return
            engine.begin(command, should_stop)

    def _drop_unwanted(self) -> None:
        """Take what has come; end what was stopped before it began."""
        while not self._queue.empty():
            self._waiting.append(self._queue.get())
        for received in tuple(self._waiting):
            command, should_stop = received
            reason = should_stop()
            if reason is not None and isinstance(command, TrainSpec | EvalSpec):
                self._waiting.remove(received)
                self._engine.report(Stopped(run_id=command.run_id, reason=cast("StopReason", reason), step=0))

    def _read(self) -> None:
        for command in read_commands(self._commands):
            match command:
                case Stop():
                    self._stop(command)
                case ValidationError():
                    sys.stderr.write(f"not a command: {command}\n")
                    message = "The engine was sent a command it does not understand; versions may differ."
                    error = WorkerError(kind="fatal", code="invalid_command", message=message)
                    self._engine.report(Failed(run_id="", error=error))
                case _:
                    should_stop = StopSignal()
                    if isinstance(command, TrainSpec | EvalSpec):
                        self._signals[command.run_id] = should_stop
                        if len(self._signals) > _REMEMBERED_RUNS:
                            del self._signals[next(iter(self._signals))]
                    self._queue.put((command, should_stop))
        os._exit(0)

    def _stop(self, wish: Stop) -> None:
        """A run that is over hears nothing any more."""
        wanted = list(self._signals.values()) if wish.run_id is None else [self._signals.get(wish.run_id)]
        for should_stop in wanted:
            if should_stop is not None:
                should_stop.reason = wish.reason

    def _on_sigterm(self, _signal: int, _frame: FrameType | None) -> None:
        """Stop the runs in progress with a checkpoint, then leave."""
        self._stop(Stop(reason="shutdown"))
        self._queue.put((Exit(), StopSignal()))
