"""The jobs that a worker runs at this moment: each in a thread of its own, with its own lease, on one engine."""

from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Self

from app.logs import bind, logger


class Riders:
    """Used as `with Riders(…) as riders:`; leaving the block waits until the last of them is out."""

    def __init__(self, seats: int) -> None:
        self._seats = seats
        self._threads = ThreadPoolExecutor(max_workers=seats, thread_name_prefix="rider")
        self._runs: dict[str, Future[None]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._threads.shutdown()
        self._collect()

    @property
    def job_ids(self) -> frozenset[str]:
        return frozenset(self._runs)

    @property
    def has_room(self) -> bool:
        return len(self._runs) < self._seats

    def begin(self, job_id: str, run: Callable[[], None]) -> None:
        """Run it beside the others. A job that is here under a lease it has lost gets out of its folder first."""
        earlier = self._runs.get(job_id)
        if earlier is not None:
            wait([earlier])
            self._collect()

        def bound() -> None:
            bind(job_id=job_id)
            run()

        self._runs[job_id] = self._threads.submit(bound)

    def wait(self, timeout_seconds: float | None = None) -> None:
        """Until one of them is out, or the time is over."""
        wait(self._runs.values(), timeout=timeout_seconds, return_when=FIRST_COMPLETED)
        self._collect()

    def _collect(self) -> None:
        for job_id, run in tuple(self._runs.items()):
            if run.done():
                del self._runs[job_id]
                if (bug := run.exception()) is not None:
                    logger.error("the run of job %s failed", job_id, exc_info=bug)
