"""How long this worker may still act for its job, by its own clock and always on the safe side."""

import threading
import time

MARGIN_SECONDS = 4.0  # to kill an engine and stop writing before another worker may claim


class LeaseLost(Exception):  # noqa: N818 - the state of the worker, as `Fenced`
    """The lease could not be renewed in time, or another worker has it: write nothing more."""


class Lease:
    """The end of a lease, counted from *before* the request that renewed it.

    The database grants `lease_seconds` from the moment it executes the request, so its end is
    never earlier than ours, however late its answer comes and whatever the clocks say.
    """

    def __init__(self, lease_seconds: float, *, granted_at: float) -> None:
        self._seconds = lease_seconds
        self._lock = threading.Lock()
        self._ends_at = granted_at + lease_seconds
        self._is_lost = False

    def renewed(self, requested_at: float) -> None:
        """A renewal requested at `requested_at` (monotonic seconds) has succeeded."""
        with self._lock:
            self._ends_at = max(self._ends_at, requested_at + self._seconds)

    def lose(self) -> None:
        """Another worker holds the job."""
        with self._lock:
            self._is_lost = True

    def seconds_left(self) -> float:
        """Seconds in which this worker may still write; 0 when it must stop."""
        with self._lock:
            if self._is_lost:
                return 0.0
            margin = min(MARGIN_SECONDS, self._seconds / 3)
            return max(0.0, self._ends_at - margin - time.monotonic())

    def check(self) -> None:
        """`LeaseLost` when it is over."""
        if self.seconds_left() <= 0:
            raise LeaseLost("the lease of the job is over")
