"""The place of one engine beside its supervisor: warm between jobs, replaced when it has died."""

import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from app.contracts.reports import Ready
from workers.supervisor.engine_process import EngineLost, EngineProcess

_READY_SECONDS = 300.0  # torch from a cold network disk takes minutes
_EXIT_GRACE_SECONDS = 2.0
_KNOWN_SECONDS = 30.0  # a database that is away for longer ends the round; the next one asks again
_SLICE_SECONDS = 0.2  # how late a waiting round sees that the worker leaves


class EngineSlot:
    """Holds the living engine, if any."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], folder: Path, shutdown: threading.Event
    ) -> None:
        self._command = command
        self._environment = environment
        self._folder = folder
        self._shutdown = shutdown
        self._engine: EngineProcess | None = None
        self._told = threading.Condition()
        self._known: Ready | None = None
        self.news = threading.Event()
        """Set when an engine has become ready, so that the pool is told at once."""

    @property
    def ready(self) -> Ready | None:
        """What the present engine said of its device."""
        return self._engine.ready if self._engine is not None else None

    @property
    def is_known(self) -> bool:
        """Whether the pool knows the present engine's device: before that, it could not tell which jobs fit."""
        return self.ready is not None and self._known is self.ready

    def tell_known(self, ready: Ready | None) -> None:
        """The pool now knows what this engine said; `Presence` tells it."""
        with self._told:
            self._known = ready
            self._told.notify_all()

    def wait_until_known(self) -> bool:
        """Wait for the pool to know the present engine; False if the worker leaves or it takes too long."""
        deadline = time.monotonic() + _KNOWN_SECONDS
        with self._told:
            while not (self.is_known or self._shutdown.is_set() or time.monotonic() > deadline):
                self._told.wait(_SLICE_SECONDS)
            return self.is_known

    @property
    def resident_base(self) -> str | None:
        """`weights_sha256` of the base in the living engine's memory."""
        engine = self._engine
        return engine.resident_base if engine is not None and engine.is_alive() else None

    def ensure_ready(self) -> EngineProcess:
        """A living engine that waits for commands; `EngineLost` if none can be had."""
        engine = self._engine
        if engine is None or not engine.is_alive():
            self._engine = engine = EngineProcess(self._command, self._environment, self._folder)
            engine.start()
        deadline = time.monotonic() + _READY_SECONDS
        while engine.ready is None:
            if self._shutdown.is_set() or time.monotonic() > deadline:
                engine.kill("it was not ready in time")
                raise EngineLost("the engine was not ready in time")
            engine.take_ready(_SLICE_SECONDS)
            if engine.ready is not None:
                self.news.set()
        return engine

    def kill(self, because: str) -> None:
        if self._engine is not None:
            self._engine.kill(because)

    def close(self) -> None:
        """Let the engine go; it is dead when this returns."""
        if self._engine is not None:
            self._engine.close(_EXIT_GRACE_SECONDS)
