"""Renews one lease from a thread of its own, and hears what its owner wants."""

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from sqlalchemy.exc import SQLAlchemyError

from app.factory import Services
from app.jobs.worker_messages import Directive
from app.logs import logger
from workers.supervisor.held_job import HeldLease
from workers.supervisor.run_watch import StopReason

_STOPS: dict[Directive, StopReason] = {
    Directive.CANCEL: "cancel",
    Directive.PAUSE: "pause",
    Directive.PREEMPT: "preempt",
}


class Heartbeat:
    """Beats while its block runs, during uploads and evaluation too.

    A beat that fails is tried again at the next; the lease ends by itself if they all do.
    """

    def __init__(self, held: HeldLease, demand: Callable[[StopReason], None]) -> None:
        self._held = held
        self._demand = demand
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._left.set()
        self._thread.join(1.0)  # a beat stuck in a dead connection is left to its own end

    def _run(self) -> None:
        while not self._left.wait(self._held.context.settings.heartbeat_seconds):
            if not self._beat():
                return

    def _beat(self) -> bool:
        """Renew once; False when there is nothing left to renew."""
        held = self._held
        requested_at = time.monotonic()
        try:
            with held.context.database.unit_of_work() as work:
                directive = held.beat(Services(held.context, work))
        except SQLAlchemyError as error:
            reason = str(error).splitlines()[0]
            logger.warning("heartbeat failed, %.0f s of the lease left: %s", held.lease.seconds_left(), reason)
            return True
        if directive is Directive.FENCED:
            # After the job's own end this is the expected last answer.
            if not self._left.is_set():
                held.lease.lose()
            return False
        held.lease.renewed(requested_at)
        if directive in _STOPS:
            self._demand(_STOPS[directive])
        return True
