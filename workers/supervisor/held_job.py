"""What is written about one claimed job or run: short units of work, tried again until the lease is nearly over."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.context import Context
from app.evals.worker_service import EvalWorkerService
from app.factory import Services
from app.jobs.fencing import Fenced
from app.jobs.worker_messages import Directive
from app.jobs.worker_service import JobWorkerService
from app.logs import logger
from workers.supervisor.lease import Lease, LeaseLost

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.1, 2.0

Result = TypeVar("Result")


class HeldLease(ABC):
    """A lease on something, and writes about it."""

    def __init__(self, context: Context, lease: Lease) -> None:
        self.context = context
        self.lease = lease

    @abstractmethod
    def beat(self, services: Services) -> Directive:
        """Renew the lease in this unit of work, and hear what the owner wants."""

    def in_unit(self, verb: Callable[[Services], Result]) -> Result:
        """Run `verb` in a unit of work of its own, again after each fault of the database.

        A commit that failed may have happened all the same: every verb is keyed so that the second time changes
        nothing. `LeaseLost` when what is held is another's or time is up.
        """
        pause = _FIRST_PAUSE_SECONDS
        while True:
            self.lease.check()
            try:
                with self.context.database.unit_of_work() as work:
                    return verb(Services(self.context, work))
            except Fenced as fenced:
                self.lease.lose()
                raise LeaseLost(str(fenced)) from fenced
            except (DBAPIError, PoolTimeout) as error:
                if not is_passing(error):
                    raise
                logger.warning("the database cannot be reached, trying again: %s", str(error).splitlines()[0])
            threading.Event().wait(min(pause, self.lease.seconds_left()))
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


class HeldJob(HeldLease):
    """A job this worker holds by (job_id, fence). Writes are keyed by job, fence and step."""

    def __init__(self, context: Context, job_id: str, fence: int, lease: Lease) -> None:
        super().__init__(context, lease)
        self.job_id = job_id
        self.fence = fence

    def beat(self, services: Services) -> Directive:
        return services.job_worker.heartbeat(self.job_id, self.fence)

    def write(self, verb: Callable[[JobWorkerService], Result]) -> Result:
        """As `in_unit`, with the verbs of jobs."""
        return self.in_unit(lambda services: verb(services.job_worker))


class HeldRun(HeldLease):
    """A run of an eval this worker holds by (run_id, fence). Writes are keyed by run, fence and item."""

    def __init__(self, context: Context, run_id: str, fence: int, lease: Lease) -> None:
        super().__init__(context, lease)
        self.run_id = run_id
        self.fence = fence

    def beat(self, services: Services) -> Directive:
        return services.eval_worker.heartbeat(self.run_id, self.fence)

    def write(self, verb: Callable[[EvalWorkerService], Result]) -> Result:
        """As `in_unit`, with the verbs of runs."""
        return self.in_unit(lambda services: verb(services.eval_worker))


def is_passing(error: DBAPIError | PoolTimeout) -> bool:
    """Whether the database was away (to be tried again) rather than asked something wrong."""
    if isinstance(error, OperationalError | InterfaceError | PoolTimeout):
        return True
    return error.connection_invalidated
