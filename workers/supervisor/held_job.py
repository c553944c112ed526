"""What is written about one claimed job: short units of work, tried again until the lease is nearly over."""

import threading
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.context import Context
from app.factory import Services
from app.jobs.fencing import Fenced
from app.jobs.worker_service import JobWorkerService
from app.logs import logger
from workers.supervisor.lease import Lease, LeaseLost

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.1, 2.0

Result = TypeVar("Result")


class HeldJob:
    """A job this worker holds by (job_id, fence)."""

    def __init__(self, context: Context, job_id: str, fence: int, lease: Lease) -> None:
        self.context = context
        self.job_id = job_id
        self.fence = fence
        self.lease = lease

    def write(self, verb: Callable[[JobWorkerService], Result]) -> Result:
        """Run `verb` in a unit of work of its own, again after each fault of the database.

        A commit that failed may have happened all the same: every verb is keyed by job, fence and
        step, so that the second time changes nothing. `LeaseLost` when the job is another's or time is up.
        """
        pause = _FIRST_PAUSE_SECONDS
        while True:
            self.lease.check()
            try:
                with self.context.database.unit_of_work() as work:
                    return verb(Services(self.context, work).job_worker)
            except Fenced as fenced:
                self.lease.lose()
                raise LeaseLost(str(fenced)) from fenced
            except (DBAPIError, PoolTimeout) as error:
                if not is_passing(error):
                    raise
                logger.warning("the database cannot be reached, trying again: %s", str(error).splitlines()[0])
            threading.Event().wait(min(pause, self.lease.seconds_left()))
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


def is_passing(error: DBAPIError | PoolTimeout) -> bool:
    """Whether the database was away (to be tried again) rather than asked something wrong."""
    if isinstance(error, OperationalError | InterfaceError | PoolTimeout):
        return True
    return error.connection_invalidated
