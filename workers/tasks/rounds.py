"""The task edge: one round at a time, whoever asks for it, and nothing escapes."""

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.logs import logger
from workers.supervisor.engine_process import EngineLost
from workers.supervisor.held_job import is_passing


class Rounds:
    """Runs a role's rounds: at once when the bell rings, and every `period_seconds` without any bell.

    A task that finds a round under way waits for its end and runs another: so a busy worker takes no
    second bell from the queue, and a bell rung just before the end is not lost.
    """

    def __init__(self, work: Callable[[], None], *, period_seconds: float, shutdown: threading.Event) -> None:
        self._work = work
        self._period_seconds = period_seconds
        self._shutdown = shutdown
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._repeat, name="rounds", daemon=True)

    def __enter__(self) -> Self:
        """The first round begins now."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Wait for the round under way, which sees `shutdown` itself."""
        self._shutdown.set()
        self._thread.join()
        with self._lock:
            pass

    def run(self) -> None:
        """One round. Errors are logged: the next bell or the next period tries again."""
        with self._lock:
            if self._shutdown.is_set():
                return
            try:
                self._work()
            except (DBAPIError, PoolTimeout) as error:
                if is_passing(error):
                    logger.warning("the database cannot be reached: %s", str(error).splitlines()[0])
                else:
                    logger.exception("the round failed")
            except EngineLost as lost:
                if not self._shutdown.is_set():
                    logger.error("no engine: %s", lost)
            except Exception:  # noqa: BLE001 - the task edge
                logger.exception("the round failed")

    def _repeat(self) -> None:
        while True:
            self.run()
            if self._shutdown.wait(self._period_seconds):
                return
