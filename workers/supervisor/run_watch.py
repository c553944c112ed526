"""Ends the engine's run in time, whatever else is stuck: the only thread that waits for nothing."""

import threading
import time
from types import TracebackType
from typing import Literal, Self

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

    Used as `with RunWatch(…) as watch:` around one job; leaving it with a run in progress kills the engine.
    """

    def __init__(self, engine: EngineProcess, lease: Lease, shutdown: threading.Event) -> None:
        self._engine = engine
        self._lease = lease
        self._shutdown = shutdown
        self._lock = threading.Lock()
        self._is_running = False
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
        if self._is_running:
            self._engine.kill("its run was given up")

    def begin(self, command: TrainSpec | EvalSpec) -> None:
        """Start a run; `Interrupted` instead if a stop is wished for already."""
        with self._lock:
            self._raise_if_stopped()
            self._engine.send(command)
            self._is_running = True

    def end(self) -> None:
        """The run's last report has come: the engine is idle."""
        with self._lock:
            self._is_running = False
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
            if self._is_running:
                self._tell(reason)

    def _tell(self, reason: StopReason) -> None:
        self._kill_at = time.monotonic() + STOP_GRACE_SECONDS[reason]
        try:
            self._engine.send(Stop(reason=reason))
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
                is_running, kill_at = self._is_running, self._kill_at
            if not is_running:
                continue
            if self._lease.seconds_left() <= 0:
                self._engine.kill("the lease of its job is over")
            elif kill_at is not None and time.monotonic() >= kill_at:
                self._engine.kill(f"it did not stop in time ({self.reason})")
