"""How a lease ends: released, crashed, lost, failed. Used by workers' calls and by the reaper alike."""

from app.contracts.errors import WorkerError
from app.contracts.tasks import Queue
from app.db.engine import UnitOfWork
from app.db.tables import Job
from app.jobs import event_texts
from app.jobs.ledger import JobLedger
from app.jobs.repository import JobRepository
from app.jobs.results import JobResults
from app.jobs.states import TERMINAL, Event, JobPurpose, Status
from app.usage.ledger import UsageLedger

FIRST_DELAY_SECONDS = 2.0
MAX_DELAY_SECONDS = 60.0


def backoff_seconds(attempts: int) -> float:
    """Pause before the attempt after `attempts` lost ones: 2, 4, 8 … at most 60 seconds."""
    return float(min(MAX_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2 ** (attempts - 1)))


class JobEndings:
    """Expects the job's row to be locked and its lease to be held (or run out)."""

    def __init__(
        self,
        work: UnitOfWork,
        repository: JobRepository,
        ledger: JobLedger,
        usage: UsageLedger,
        *,
        max_attempts: int,
        max_losses: int,
    ) -> None:
        self._work = work
        self._repository = repository
        self._ledger = ledger
        self._usage = usage
        self._max_attempts = max_attempts
        self._max_losses = max_losses

    def release(self, job: Job, actor: str, *, is_crowded: bool = False) -> None:
        """The holder lets go in good order: back to the queue at once if work remains.

        `is_crowded`: for want of memory beside others, so that it rides alone from now on.
        """
        reason = job.preempt_reason
        said = event_texts.REQUEUED if reason is None else event_texts.made_way(reason)
        if is_crowded:
            job.riding = None
            said = event_texts.CROWDED
        self._ledger.apply(job, Event.REQUEUE, actor, said)
        self.free(job)
        if job.status == Status.QUEUED:
            self._work.ring(Queue.GPU)
        if job.status == Status.VALIDATING_FILES:
            self._work.ring(Queue.CPU)

    def crash(self, job: Job, actor: str, error: WorkerError) -> None:
        """The attempt ended badly: another one after a pause, or the end with its code after too many."""
        if self._needs_no_other(job, actor):
            return
        job.attempts += 1
        if job.attempts >= self._max_attempts:
            message = f"The job was given up after {job.attempts} lost attempts. The last one ended so: {error.message}"
            self.fail(job, actor, WorkerError(kind="fatal", code=error.code, message=message))
            return
        delay = backoff_seconds(job.attempts)
        said = event_texts.attempt_lost(error.message, job.attempts, self._max_attempts, delay)
        self._go_back(job, actor, error.message, said, delay)

    def lose(self, job: Job, actor: str, reason: str, *, rides_alone: bool = False) -> None:
        """The worker is gone, for which the job is not to blame: no attempt is counted, yet there is a limit.

        A job that takes whole machines down with it would otherwise do so for ever. `rides_alone`: several were there,
        and one of them may be to blame after all; the next time each is alone, and pays for itself.
        """
        if rides_alone:
            job.riding = None
        if self._needs_no_other(job, actor):
            return
        job.losses += 1
        if job.losses >= self._max_losses:
            message = f"The job was given up after {job.losses} lost workers. The last one was lost so: {reason}"
            self.fail(job, actor, WorkerError(kind="fatal", code="worker_lost", message=message))
            return
        delay = backoff_seconds(job.losses)
        said = event_texts.worker_lost(reason, job.losses, self._max_losses, delay)
        if rides_alone:
            said += event_texts.RIDES_ALONE
        self._go_back(job, actor, reason, said, delay)

    def _needs_no_other(self, job: Job, actor: str) -> bool:
        """Whether the job is over or paused, so that the end of its attempt is only to be noted."""
        if job.status in TERMINAL or job.status == Status.PAUSED:
            self._ledger.apply(job, Event.REQUEUE, actor, event_texts.REQUEUED)
            self.free(job)
            return True
        return False

    def _go_back(self, job: Job, actor: str, reason: str, said: str, delay_seconds: float) -> None:
        changed = self._ledger.apply(job, Event.REQUEUE, actor, said, level="warn", reason=reason)
        if not changed:
            self._ledger.say(job, said, level="warn")
        self.free(job)
        job.not_before = self._repository.now_plus(delay_seconds)

    def succeed(self, job: Job, actor: str, results: JobResults, *, trained_tokens: int) -> bool:
        """True if the job has succeeded; False if it was cancelled and stays so."""
        if job.status == Status.CANCELLED:
            self.free(job)
            return False
        if job.purpose == JobPurpose.EVALUATION:
            if job.evaluation is None:
                raise ValueError(f"evaluation {job.id} cannot succeed before its result is recorded")
            self._ledger.apply(job, Event.SUCCEED, actor, event_texts.SUCCEEDED)
            self.free(job)
            return True
        if job.tuned_model_id is None:
            raise ValueError(f"job {job.id} cannot succeed before its final checkpoint is published")
        job.trained_tokens = trained_tokens
        job.result_file_id = results.write_result_file(job, actor)
        self._ledger.say(job, event_texts.model_created(job.tuned_model_id))
        self._ledger.apply(job, Event.SUCCEED, actor, event_texts.SUCCEEDED, model_id=job.tuned_model_id)
        self.free(job)
        return True

    def fail(self, job: Job, actor: str, error: WorkerError) -> None:
        """The end, with an error for the job's owner; a cancelled job stays cancelled."""
        changed = self._ledger.apply(job, Event.FAIL, actor, error.message, level="error", code=error.code)
        if changed:
            job.error = {"code": error.code, "message": error.message, "param": error.param}
        self.free(job)

    def free(self, job: Job) -> None:
        """Nobody holds the job any more; what its lease has used is written down."""
        self._usage.end_lease(job)
        job.owner = None
        job.lease_until = None
        job.preempt_reason = None
