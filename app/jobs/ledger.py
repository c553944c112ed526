"""Changes of a job's state: one place writes status, audit record, event and webhook, in one transaction."""

from typing import Any

from app.audit.service import AuditService
from app.db.tables import Job
from app.jobs import event_texts
from app.jobs.repository import JobRepository
from app.jobs.states import TERMINAL, Event, JobPurpose, Status, after
from app.usage.budgets import BudgetService
from app.webhooks.event_types import of_job
from app.webhooks.outbox import Outbox


class JobLedger:
    """Expects the job's row to be locked by the caller."""

    def __init__(self, repository: JobRepository, audit: AuditService, outbox: Outbox, budgets: BudgetService) -> None:
        self._repository = repository
        self._audit = audit
        self._outbox = outbox
        self._budgets = budgets

    def apply(self, job: Job, event: Event, actor: str, said: str, *, level: str = "info", **data: Any) -> bool:
        """Move the job by the table of `states`; True if its status changed. `IllegalTransition` if it may not."""
        return self.move(job, after(Status(job.status), event), event, actor, said, level=level, **data)

    def move(
        self,
        job: Job,
        following: Status,
        event: Event,
        actor: str,
        said: str,
        *,
        level: str = "info",
        **data: Any,
    ) -> bool:
        """Write a status already decided on, with its audit record and event."""
        before = job.status
        if before == following:
            return False
        job.status = following
        if following in TERMINAL:
            job.finished_at = self._repository.now()
        if following in TERMINAL or following is Status.PAUSED:
            self._budgets.settle(job.id)
        if following is not Status.RUNNING:
            job.estimated_finish = None
        self._audit.record(
            job.team_id, actor, f"job.{event}", job.id, before=before, after=str(following), fence=job.fence, **data
        )
        self.say(job, said, level=level)
        self._outbox.announce(job.team_id, of_job(job.purpose or JobPurpose.TRAINING, following), job.id)
        return True

    def started(self, job: Job, actor: str) -> None:
        """Record a claim: the pool has already written the status, in the same transaction."""
        self._audit.record(
            job.team_id,
            actor,
            f"job.{Event.CLAIM}",
            job.id,
            before=str(Status.QUEUED),
            after=str(Status.RUNNING),
            fence=job.fence,
        )
        is_first = job.started_at == job.claimed_at
        is_evaluation = job.purpose == JobPurpose.EVALUATION
        self.say(
            job,
            event_texts.begun(is_evaluation=is_evaluation, is_first=is_first, attempt=job.attempts + job.losses + 1),
        )

    def say(
        self,
        job: Job,
        *messages: str,
        level: str = "info",
        type_: str = "message",
        data: dict[str, Any] | None = None,
    ) -> None:
        """Tell the job's owner something, in this order."""
        self._repository.add_events(job.id, messages, level=level, type_=type_, data=data)
