"""The interface for workers: each method is one short unit of work that the caller commits.

A worker owns a job by (job_id, fence) from a claim until it releases, finishes or fails it, or until
its lease runs out unrenewed. Every write here is refused with `Fenced` once that is over. The database's
clock alone decides about leases.
"""

from typing import Any

from app.audit.service import AuditService
from app.bases.service import BaseService
from app.context import Context
from app.contracts.errors import WorkerError
from app.contracts.reports import Encoded, Evaluation, Metric
from app.contracts.requirements import judge_sheet, parse_sheet
from app.contracts.tasks import Queue
from app.datasets.report import DatasetReport
from app.datasets.service import DatasetService
from app.db.engine import UnitOfWork
from app.db.tables import Job
from app.errors import NotFound
from app.files.service import FileService
from app.jobs import event_texts
from app.jobs.claiming import JobClaims
from app.jobs.ending import JobEndings
from app.jobs.estimates import JobEstimates
from app.jobs.fencing import Fenced
from app.jobs.ledger import JobLedger
from app.jobs.repository import JobRepository
from app.jobs.results import JobResults
from app.jobs.states import Event, Status
from app.jobs.worker_messages import Directive, PublishedAdapter, TrainingTask, ValidationTask
from app.pool.service import Claim, PoolService
from app.registry.service import RegistryService
from app.reports.words import summary
from app.usage.budgets import BudgetService
from app.usage.ledger import UsageLedger
from app.usage.quotes import Quotes
from app.webhooks.outbox import Outbox

_REAPED_AT_ONCE = 100


class JobWorkerService:
    """Claims, progress and endings of jobs, as workers tell them."""

    def __init__(  # noqa: PLR0917 - called by the factory alone
        self,
        work: UnitOfWork,
        context: Context,
        files: FileService,
        datasets: DatasetService,
        bases: BaseService,
        registry: RegistryService,
        pool: PoolService,
        audit: AuditService,
        outbox: Outbox,
        usage: UsageLedger,
        budgets: BudgetService,
    ) -> None:
        self._work = work
        self._settings = context.settings
        self._pool = pool
        self._datasets = datasets
        self._repository = JobRepository(work.session)
        self._ledger = JobLedger(self._repository, audit, outbox, budgets)
        self._usage = usage
        self._budgets = budgets
        self._endings = JobEndings(
            work,
            self._repository,
            self._ledger,
            usage,
            max_attempts=context.settings.max_attempts,
            max_losses=context.settings.max_losses,
        )
        estimates = JobEstimates(self._repository, Quotes(work.session, context.settings), context.recent)
        self._claims = JobClaims(self._repository, self._ledger, self._endings, files, bases, estimates, pool, budgets)
        self._results = JobResults(work, self._repository, self._ledger, files, registry)

    def claim_validation(self, owner: str) -> ValidationTask | None:
        """The next job whose files need inspection; None if there is none.

        Commit, then `inspect(task)` with no transaction open, then `finish_validation` in the next one.
        The lease covers the reading: it is longer for larger files.
        """
        claim = self._pool.claim(owner, from_status=Status.VALIDATING_FILES, to_status=Status.VALIDATING_FILES)
        if claim is None:
            return None
        job = self._held(claim.job_id, claim.fence)
        try:
            return self._claims.validation_task(job, lease_seconds=self._settings.lease_seconds)
        except NotFound as error:
            self._endings.fail(job, _actor(job), _missing(error))
            self._work.ring(Queue.CPU)
            return None

    def inspect(self, task: ValidationTask) -> DatasetReport:
        """Read the files; no database. `WorkerFailure` (transient) if the bytes cannot be had: then `fail`."""
        return self._datasets.inspect(
            task.training_file,
            task.validation_file,
            task=task.task,
            method=task.method,
            wants_selection=task.wants_selection,
        )

    def finish_validation(self, task: ValidationTask, report: DatasetReport) -> None:
        """Queue the job with its numbers fixed, or fail it naming the lines. Gives up the lease."""
        job = self._held(task.job_id, task.fence)
        self._claims.finish_validation(job, _actor(job), report)
        if job.status == Status.QUEUED:
            self._work.ring(Queue.GPU)

    def claim_training(self, owner: str) -> TrainingTask | None:
        """The job that fair share picks for this worker, now `running` and leased; None if none waits.

        `owner` is `worker_id/incarnation`. A job whose files or base are gone fails here, and None is
        returned although others may wait: the queue is rung again.
        """
        claim = self._pool.claim(owner, from_status=Status.QUEUED, to_status=Status.RUNNING)
        return None if claim is None else self._begin(claim)

    def _begin(self, claim: Claim) -> TrainingTask | None:
        job = self._held(claim.job_id, claim.fence)
        self._ledger.started(job, _actor(job))
        self._usage.begin_lease(job)
        try:
            return self._claims.training_task(job)
        except NotFound as error:
            self._endings.fail(job, _actor(job), _missing(error))
            self._work.ring(Queue.GPU)
            return None

    def claim_companion(self, owner: str) -> TrainingTask | None:
        """As `claim_training`, of a worker that runs something: a job that may ride beside that; None if none may."""
        claim = self._pool.claim_companion(owner, from_status=Status.QUEUED, to_status=Status.RUNNING)
        return None if claim is None else self._begin(claim)

    def heartbeat(self, job_id: str, fence: int) -> Directive:
        """Renew the lease and learn what the job's owner wants. FENCED (no exception) if it is lost."""
        job = self._repository.lock_held(job_id, fence)
        if job is None:
            return Directive.FENCED
        self._repository.extend_lease(job_id, fence, self._settings.lease_seconds)
        if job.status == Status.CANCELLED:
            return Directive.CANCEL
        if job.status == Status.PAUSED:
            return Directive.PAUSE
        if job.preempt_reason is not None:
            return Directive.PREEMPT
        if job.status == Status.QUEUED:
            # Paused and resumed between two heartbeats: go on as if nothing had been.
            self._ledger.apply(job, Event.CONTINUE, _actor(job), event_texts.GOES_ON)
        return Directive.CONTINUE

    def record_event(
        self, job_id: str, fence: int, message: str, *, level: str = "info", data: dict[str, Any] | None = None
    ) -> None:
        """Tell the job's owner something; `data` for programs."""
        self._ledger.say(self._held(job_id, fence), message, level=level, data=data)

    def record_encoded(self, job_id: str, fence: int, encoded: Encoded) -> None:
        """What became of every row; stored with the job, with a warning event if rows were dropped or cut."""
        job = self._held(job_id, fence)
        is_first = job.encoding is None
        job.encoding = encoded.model_dump(mode="json", exclude={"kind", "run_id"})
        if is_first:
            for level, message in event_texts.encoded(encoded):
                self._ledger.say(job, message, level=level)

    def record_metrics(self, job_id: str, fence: int, metrics: list[Metric]) -> None:
        """Upserts keyed by step. Each step has one metrics event, however often it is recorded."""
        self._results.record_metrics(self._held(job_id, fence), metrics)

    def record_resume_checkpoint(self, job_id: str, fence: int, step: int, archive_key: str, sha256: str) -> str | None:
        """Point at the newest complete state; the key of the archive it replaces, to be deleted after the commit."""
        job = self._held(job_id, fence)
        previous = job.resume_checkpoint
        job.resume_checkpoint = {"step": step, "archive_key": archive_key, "sha256": sha256}
        if previous is None or previous["archive_key"] == archive_key:
            return None
        return str(previous["archive_key"])

    def publish_checkpoint(
        self,
        job_id: str,
        fence: int,
        step: int,
        adapter: PublishedAdapter,
        metric: Metric | None,
        *,
        is_final: bool,
    ) -> str:
        """Register the adapter and return its model id. Repeating it for the same step returns the first id.

        Allowed while the lease is held, also after a cancel or pause: their results are kept.
        """
        job = self._held(job_id, fence)
        return self._results.publish(job, _actor(job), step, adapter, metric, is_final=is_final)

    def record_evaluation(self, job_id: str, fence: int, evaluation: Evaluation) -> None:
        """Store base beside tuned and say it in plain words."""
        job = self._held(job_id, fence)
        if job.requirements is not None:
            judged = judge_sheet(parse_sheet(job.requirements), evaluation.tuned.figures)
            evaluation = evaluation.model_copy(update={"requirements": judged})
        evaluation = evaluation.model_copy(update={"summary": summary(evaluation)})
        job.evaluation = evaluation.model_dump(mode="json", exclude={"kind", "run_id"})
        self._ledger.say(job, event_texts.evaluated(evaluation))

    def succeed(self, job_id: str, fence: int, *, trained_tokens: int) -> bool:
        """End the job well, with its result file; needs a final checkpoint published. Gives up the lease.

        False if the job was cancelled meanwhile: it stays cancelled and keeps what was published.
        """
        job = self._held(job_id, fence)
        return self._endings.succeed(job, _actor(job), self._results, trained_tokens=trained_tokens)

    def fail(self, job_id: str, fence: int, error: WorkerError) -> None:
        """End the job with an error (usage, fatal) or send it back as after a crash (transient). Gives up the lease."""
        job = self._held(job_id, fence)
        if error.kind == "transient":
            self._endings.crash(job, _actor(job), error)
        else:
            self._endings.fail(job, _actor(job), error)

    def release(self, job_id: str, fence: int, *, is_crowded: bool = False) -> None:
        """Give up the lease after a stop (`is_crowded`: for want of memory beside others); no attempt is counted."""
        job = self._held(job_id, fence)
        self._endings.release(job, _actor(job), is_crowded=is_crowded)

    def lose_shared(self, job_id: str, fence: int, message: str) -> None:
        """The engine died with several jobs on it, one of them to blame: a loss for each, which then rides alone."""
        job = self._held(job_id, fence)
        self._endings.lose(job, _actor(job), message, rides_alone=True)

    def reap(self) -> int:
        """End leases that ran out (control role); returns how many."""
        expired = self._repository.lock_expired(_REAPED_AT_ONCE)
        shared = self._repository.shared_owners(job.owner for job in expired)
        for job in expired:
            said = f"lease expired: nothing was heard from worker {job.owner}"
            self._endings.lose(job, "system", said, rides_alone=job.owner in shared)
        return len(expired)

    def release_previous(self, worker_id: str, incarnation: str) -> int:
        """A worker has started anew: end at once what its earlier incarnations held; returns how many."""
        held = self._repository.lock_of_worker(worker_id, but_not=f"{worker_id}/{incarnation}")
        for job in held:
            said = f"worker {worker_id} was started anew"
            self._endings.lose(job, f"worker:{worker_id}", said, rides_alone=len(held) > 1)
        return len(held)

    def enforce_budgets(self) -> int:
        """Warn teams near their budget, and pause the jobs of those beyond it (control role); returns how many.

        A job that somebody writes to at this moment is left for the next time.
        """
        if not self._pool.try_control():
            return 0
        stopped = 0
        for verdict in self._budgets.review():
            for job in self._repository.lock_waiting_or_running(verdict.team_id):
                if verdict.is_over:
                    said = event_texts.stopped_by_budget(verdict.said)
                    stopped += self._ledger.apply(job, Event.PAUSE, "system", said, level="warn", reason="budget")
                elif verdict.is_news:
                    self._ledger.say(job, event_texts.budget_warned(verdict.said), level="warn")
        return stopped

    def tick(self) -> int:
        """One turn of the control role: reap, then ring what waits. -1 if another control role is at work."""
        if not self._pool.try_control():
            return -1
        reaped = self.reap()
        self._repository.flush()
        self._pool.ring_waiting()
        return reaped

    def make_way(self) -> bool:
        """Ask one running job to checkpoint and let go for one of a higher claim (control role); whether one is."""
        return self._pool.make_way() is not None

    def _held(self, job_id: str, fence: int) -> Job:
        job = self._repository.lock_held(job_id, fence)
        if job is None:
            raise Fenced(job_id, fence)
        return job


def _actor(job: Job) -> str:
    return f"worker:{job.owner}"


def _missing(error: NotFound) -> WorkerError:
    return WorkerError(kind="usage", code="resource_missing", message=error.message, param=error.param)
