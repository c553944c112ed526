"""The place of one engine beside its supervisor: warm between jobs, replaced when it has died."""

import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from app.contracts.reports import Ready
from workers.supervisor.engine_process import EngineLost, EngineProcess

_READY_SECONDS = 300.0  # torch from a cold network disk takes minutes
_EXIT_GRACE_SECONDS = 2.0


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
        self.known: Ready | None = None
        """What the pool was told of the engine; set by `Presence`."""

    @property
    def ready(self) -> Ready | None:
        """What the present engine said of its device."""
        return self._engine.ready if self._engine is not None else None

    @property
    def is_known(self) -> bool:
        """Whether the pool knows the present engine's device: before that, it could not tell which jobs fit."""
        return self.ready is not None and self.known is self.ready

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
            engine.take_ready(0.2)
        return engine

    def kill(self, because: str) -> None:
        if self._engine is not None:
            self._engine.kill(because)

    def close(self) -> None:
        """Let the engine go; it is dead when this returns."""
        if self._engine is not None:
            self._engine.close(_EXIT_GRACE_SECONDS)
