"""One command on an engine as a stream of reports, with an eye on signs of life."""

import statistics
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from app.contracts.errors import WorkerFailure
from app.contracts.reports import (
    Checkpoint,
    Encoded,
    Evaluation,
    Failed,
    Finished,
    Metric,
    Progress,
    Ready,
    Stopped,
)
from app.contracts.specs import EvalSpec, TrainSpec
from workers.supervisor.engine_process import EngineLost, EngineProcess
from workers.supervisor.run_watch import Interrupted, RunWatch

RunReport = Progress | Encoded | Metric | Checkpoint | Finished | Evaluation
_LOOK_SECONDS = 0.5


@dataclass(frozen=True)
class Patience:
    """Seconds without a report after which an engine counts as hung."""

    load_seconds: float = 1800.0
    train_seconds: float = 120.0
    train_median_steps: float = 20.0
    evaluate_seconds: float = 900.0


class EngineRun:
    """Runs commands for one job on an engine, which may work for others too."""

    def __init__(self, engine: EngineProcess, watch: RunWatch, patience: Patience) -> None:
        self.watch = watch
        self._engine = engine
        self._patience = patience

    def reports(self, command: TrainSpec | EvalSpec) -> Iterator[RunReport | None]:
        """Start `command`; its reports to the last one, and None now and then while there is none.

        Raises `Interrupted` when it was stopped, `WorkerFailure` when it failed, `LeaseLost` when the job
        is no longer ours, and `EngineLost` when the engine died or hung for no wish of ours.
        """
        self._engine.last_report_at = time.monotonic()
        self.watch.begin(command)
        try:
            yield from self._read(command)
        except EngineLost:
            self.watch.end()
            self.watch.check()  # killed on purpose: that purpose is the reason to name
            raise

    def _read(self, command: TrainSpec | EvalSpec) -> Iterator[RunReport | None]:
        silence = _Silence(self._patience, command)
        while True:
            report = self._engine.next_report(_LOOK_SECONDS, command.run_id)
            if report is None:
                self._check_alive(command.run_id, silence)
                yield None
                continue
            match report:
                case Ready():
                    continue
                case Failed():
                    self._fail(report)
                case Stopped():
                    self.watch.end()
                    raise Interrupted(self.watch.reason or report.reason)
                case Finished() | Evaluation():
                    self.watch.end()
                    self._engine.resident_base = command.base.weights_sha256
                    yield report
                    return
                case _:
                    silence.heard(report)
                    if not isinstance(report, Progress):
                        self._engine.resident_base = command.base.weights_sha256
                    yield report

    def _fail(self, report: Failed) -> None:
        """A device that is lost is not this run's fault for sure where others run beside it."""
        is_shared = self._engine.is_shared
        self.watch.end()
        if report.engine_lost:
            self._engine.kill("it lost its device")
            if is_shared:
                raise EngineLost("the engine lost its device")
        raise WorkerFailure(report.error)

    def _check_alive(self, run_id: str, silence: "_Silence") -> None:
        allowed_seconds = self._engine.allow_silence(run_id, silence.limit_seconds)
        quiet_seconds = time.monotonic() - self._engine.last_report_at
        if quiet_seconds > allowed_seconds:
            self._engine.kill(f"it gave no sign of life for {quiet_seconds:.0f} s")
            raise EngineLost(f"the engine gave no sign of life for {quiet_seconds:.0f} s")


class _Silence:
    """How long the present phase may be silent."""

    def __init__(self, patience: Patience, command: TrainSpec | EvalSpec) -> None:
        self._patience = patience
        self._is_training = False
        self._step_seconds: deque[float] = deque(maxlen=100)
        self._first_limit = patience.load_seconds
        self._evaluates = isinstance(command, EvalSpec)

    def heard(self, report: RunReport) -> None:
        if isinstance(report, Encoded):
            self._is_training = True
        elif isinstance(report, Metric):
            self._step_seconds.append(report.step_seconds)

    @property
    def limit_seconds(self) -> float:
        if self._evaluates:
            return self._patience.evaluate_seconds
        if not self._is_training:
            return self._first_limit
        median = statistics.median(self._step_seconds) if self._step_seconds else 0.0
        return max(self._patience.train_seconds, self._patience.train_median_steps * median)
