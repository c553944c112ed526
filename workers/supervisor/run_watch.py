"""Ends one run of an engine in time, whatever else is stuck: the only thread that waits for nothing."""

import threading
import time
from types import TracebackType
from typing import Literal, Self

from app.contracts.reports import Evaluation, Failed, Finished, Stopped
from app.contracts.specs import EvalSpec, Stop, TrainSpec
from app.logs import logger
from workers.supervisor.engine_process import EngineLost, EngineProcess
from workers.supervisor.lease import Lease

StopReason = Literal["cancel", "pause", "preempt", "shutdown"]
EndReason = StopReason | Literal["crowded"]
"""Why a run was cut short; `crowded`: its engine has no memory for it beside others."""

# From the Stop to the kill. With a heartbeat of 2 s, a cancelled job's GPU is free within 10 s. Who makes way
# has more time for its checkpoint, as it did nothing to lose its work; the GPU is free within 30 s.
STOP_GRACE_SECONDS: dict[StopReason, float] = {"cancel": 7.0, "pause": 7.0, "preempt": 20.0, "shutdown": 15.0}
_LOOK_SECONDS = 0.1


class Interrupted(Exception):  # noqa: N818 - the state of the run
    """The run is to end before its work is done; `reason` says on whose wish."""

    def __init__(self, reason: EndReason) -> None:
        super().__init__(reason)
        self.reason = reason


class RunWatch:
    """Passes on wishes to stop, and kills the engine when it does not obey or the lease runs out.

    Used as `with RunWatch(…) as watch:` around one job; leaving it with a run in progress kills the engine. Where that
    works for other jobs too, the run is told to stop first.
    """

    def __init__(self, engine: EngineProcess, lease: Lease, shutdown: threading.Event) -> None:
        self._engine = engine
        self._lease = lease
        self._shutdown = shutdown
        self._lock = threading.Lock()
        self._run_id: str | None = None
        self._kill_at: float | None = None
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="run-watch", daemon=True)
        self.reason: StopReason | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._left.set()
        self._thread.join()
        if self._run_id is not None:
            self._give_up(self._run_id)

    def begin(self, command: TrainSpec | EvalSpec) -> None:
        """Start a run; `Interrupted` instead if a stop is wished for already."""
        with self._lock:
            self._raise_if_stopped()
            self._engine.open_box(command.run_id)
            self._run_id = command.run_id
            self._engine.send(command)

    def end(self) -> None:
        """The run's last report has come: the engine has done with it."""
        with self._lock:
            if self._run_id is not None:
                self._engine.close_box(self._run_id)
            self._run_id = None
            self._kill_at = None

    def check(self) -> None:
        """`Interrupted` or `LeaseLost` where the job should not go on."""
        self._lease.check()
        with self._lock:
            self._raise_if_stopped()

    def demand(self, reason: StopReason) -> None:
        """Ask for a stop. The first reason stays; a run in progress is told at once."""
        with self._lock:
            if self.reason is not None:
                return
            self.reason = reason
            if self._run_id is not None:
                self._tell(self._run_id, reason)

    def _tell(self, run_id: str, reason: StopReason) -> None:
        self._kill_at = time.monotonic() + STOP_GRACE_SECONDS[reason]
        try:
            self._engine.send(Stop(run_id=run_id, reason=reason))
        except EngineLost as lost:
            logger.warning("the engine could not be told to stop: %s", lost)

    def _raise_if_stopped(self) -> None:
        if self.reason is not None:
            raise Interrupted(self.reason)

    def _watch(self) -> None:
        while not self._left.wait(_LOOK_SECONDS):
            if self._shutdown.is_set():
                self.demand("shutdown")
            with self._lock:
                run_id, kill_at = self._run_id, self._kill_at
            if run_id is None:
                continue
            if kill_at is not None and time.monotonic() >= kill_at:
                self._engine.kill(f"it did not stop in time ({self.reason or 'its lease is over'})")
            elif self._lease.seconds_left() <= 0:
                self._end_lost_run(is_told=kill_at is not None)

    def _end_lost_run(self, *, is_told: bool) -> None:
        """The job is not ours any more: the run ends with its engine, or alone where that works for other jobs too."""
        if not self._engine.is_shared:
            self._engine.kill("the lease of its job is over")
        elif not is_told:
            with self._lock:
                if self._run_id is not None:
                    self._tell(self._run_id, "shutdown")

    def _give_up(self, run_id: str) -> None:
        """End a run that nobody follows any more: with its engine, or alone where that works for other jobs too."""
        deadline = time.monotonic() + STOP_GRACE_SECONDS["cancel"]
        try:
            if self._engine.is_shared:
                self._tell(run_id, "cancel")
            while self._engine.is_shared and time.monotonic() < deadline:
                report = self._engine.next_report(_LOOK_SECONDS, run_id)
                if isinstance(report, Stopped | Failed | Finished | Evaluation):
                    return
        except EngineLost:
            return
        finally:
            self._engine.close_box(run_id)
        self._engine.kill("its run was given up")
