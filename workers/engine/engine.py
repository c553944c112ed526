"""The engine: takes commands one after the other, keeps one base resident between them."""

import gc
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import FrameType
from typing import BinaryIO

import torch
from pydantic import ValidationError

from app.contracts.errors import WorkerError, WorkerFailure, disk_full, is_disk_full
from app.contracts.reports import Failed, Progress, Ready, Report
from app.contracts.specs import BaseRef, Command, EvalSpec, Exit, LoadBase, Stop, TrainSpec
from workers.engine.base_model import ResidentBase, load_base
from workers.engine.evaluation.run import evaluate
from workers.engine.machine import compute_capability, memory_bytes, pick_device, pick_dtype, release_memory
from workers.engine.protocol import read_commands
from workers.engine.training.loop import train
from workers.engine.training.quantised import Quantization, require_available

_LOAD_RUN_ID = "load_base"


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
        """One command to its last report. Nothing escapes: every failure becomes `Failed`."""
        run_id = _LOAD_RUN_ID if isinstance(command, LoadBase) else command.run_id
        try:
            quantization = command.quantization if isinstance(command, TrainSpec) else "none"
            resident = self._make_resident(command.base, run_id, quantization)
            match command:
                case TrainSpec():
                    train(resident, command, self.report, should_stop)
                case EvalSpec():
                    evaluate(resident, command, self.report, should_stop)
                case LoadBase():
                    pass
        except WorkerFailure as failure:
            self.report(Failed(run_id=run_id, error=failure.error))
        except Exception as error:  # noqa: BLE001 the command edge: the engine outlives a failed run
            traceback.print_exc(file=sys.stderr)
            self.report(failed(run_id, error))
        # Not in the handlers above: while one runs, its traceback keeps the tensors alive.
        release_memory(self.device)

    def _make_resident(self, ref: BaseRef, run_id: str, quantization: Quantization) -> ResidentBase:
        """The base asked for: the one in memory if it is the same weights in the same bits, else loaded now."""
        resident = self.resident
        wanted = (ref.weights_sha256, quantization)
        if resident is not None and (resident.ref.weights_sha256, resident.quantization) == wanted:
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


def failed(run_id: str, error: Exception) -> Failed:
    """What the supervisor is told about an unexpected exception; never paths or stacks."""
    if is_out_of_memory(error):
        message = "The device ran out of memory. Use a smaller batch size, shorter rows or a smaller base."
        return Failed(run_id=run_id, error=WorkerError(kind="usage", code="out_of_memory", message=message))
    if is_disk_full(error):
        return Failed(run_id=run_id, error=disk_full().error)
    message = f"The engine failed unexpectedly ({type(error).__name__}); its log has the details."
    return Failed(
        run_id=run_id,
        error=WorkerError(kind="fatal", code="engine_error", message=message),
        # After a CUDA fault every later call on the device fails too: the process is of no more use.
        engine_lost="CUDA error" in str(error) or isinstance(error, torch.AcceleratorError),
    )


def is_out_of_memory(error: BaseException) -> bool:
    """GPU allocator, CPU allocator (a plain RuntimeError) or Python itself."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator: can't allocate memory" in str(error)


class CommandLoop:
    """Feeds an engine from a pipe: a reader thread takes commands while a run is in progress."""

    def __init__(self, engine: Engine, commands: BinaryIO) -> None:
        self._engine = engine
        self._commands = commands
        self._queue: queue.SimpleQueue[tuple[Command | ValidationError, StopSignal]] = queue.SimpleQueue()
        self._latest = StopSignal()  # of the run received last

    def serve(self) -> None:
        """Until `Exit` or SIGTERM. End of the pipe means the supervisor died: leave at once."""
        signal.signal(signal.SIGTERM, self._on_sigterm)
        threading.Thread(target=self._read, name="commands", daemon=True).start()
        self._engine.report(self._engine.ready())
        while True:
            command, should_stop = self._queue.get()
            match command:
                case Exit():
                    return
                case Stop():
                    continue
                case ValidationError():
                    sys.stderr.write(f"not a command: {command}\n")
                    message = "The engine was sent a command it does not understand; versions may differ."
                    error = WorkerError(kind="fatal", code="invalid_command", message=message)
                    self._engine.report(Failed(run_id="", error=error))
                case _:
                    self._engine.run(command, should_stop)

    def _read(self) -> None:
        for command in read_commands(self._commands):
            if isinstance(command, Stop):
                self._latest.reason = command.reason
                continue
            self._latest = StopSignal()
            self._queue.put((command, self._latest))
        os._exit(0)

    def _on_sigterm(self, _signal: int, _frame: FrameType | None) -> None:
        """Stop the run in progress with a checkpoint, then leave."""
        self._latest.reason = "shutdown"
        self._queue.put((Exit(), self._latest))
