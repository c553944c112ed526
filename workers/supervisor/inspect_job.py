"""One claimed validation: read the files, write down what was found."""

from app.contracts.errors import WorkerFailure
from app.factory import Services
from app.jobs.worker_messages import ValidationTask
from app.logs import logger
from workers.supervisor.heartbeat import Heartbeat
from workers.supervisor.held_job import HeldJob
from workers.supervisor.lease import LeaseLost
from workers.supervisor.run_watch import StopReason


def inspect_job(held: HeldJob, task: ValidationTask) -> None:
    """Inspect and queue (or fail) the job. Only bugs raise; the lease then runs out by itself."""
    work = held.context.database.open()  # never connects: inspection touches no table
    try:
        with Heartbeat(held, _go_on):
            try:
                report = Services(held.context, work).job_worker.inspect(task)
            except WorkerFailure as failure:
                error = failure.error
                held.write(lambda jobs: jobs.fail(held.job_id, held.fence, error))
            else:
                held.write(lambda jobs: jobs.finish_validation(task, report))
    except LeaseLost as lost:
        logger.warning("the validation of job %s is not ours any more: %s", held.job_id, lost)
    finally:
        work.close()


def _go_on(reason: StopReason) -> None:
    """Inspection takes seconds and holds no GPU: the finding is kept for when the job goes on."""
    logger.info("inspection goes on after a %s", reason)
