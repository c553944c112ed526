"""The verbs of a job's owner: submit, look, cancel, pause, resume, follow."""

from dataclasses import dataclass

from app.audit.service import AuditService
from app.bases.service import BaseService
from app.context import Context
from app.contracts.reports import Evaluation
from app.contracts.tasks import Queue
from app.datasets.tasks import task_of
from app.db.base import Json
from app.db.engine import UnitOfWork
from app.db.keyset import Page
from app.db.tables import CheckpointRow, File, Job, JobEvent, JobMetric
from app.errors import Conflict, InvalidInput, NotFound
from app.files.purposes import Purpose
from app.files.service import FileService
from app.identity.caller import Caller
from app.ids import Prefix, new_id
from app.jobs import event_texts
from app.jobs.estimates import EstimateObject, JobEstimates, Plan
from app.jobs.expectations import stored_expectations
from app.jobs.ledger import JobLedger
from app.jobs.objects import PRIORITY_LEVELS, QueueHint
from app.jobs.parents import describe_parent
from app.jobs.repository import JobRepository
from app.jobs.schemas import JobCreate
from app.jobs.states import TERMINAL, Event, IllegalTransition, Status, after, resumed
from app.jobs.submission import asked_recipe, check_fits, check_settings, check_sheet
from app.jobs.training_settings import as_asked
from app.pool.fairshare import explain, position
from app.pool.limits import LimitsService
from app.pool.service import PoolService
from app.registry.naming import is_suffix
from app.registry.service import RegistryService, ResolvedModel
from app.usage.budgets import BudgetService
from app.usage.quotes import Quotes
from app.webhooks.outbox import Outbox


@dataclass(frozen=True)
class News:
    """What happened to a job since an event's sequence number."""

    events: tuple[JobEvent, ...]
    job: Job
    is_over: bool
    """Nothing more will come: the job has ended and no worker is still saving its results."""


@dataclass(frozen=True)
class _Asked:
    """A body that was checked, and what it names."""

    model: ResolvedModel
    parent: Json | None
    settings: Json
    training_file: File


def read_news(repository: JobRepository, job: Job, *, since: int, limit: int) -> News:
    """What happened to a job that was read just before: events that come between are news of the next call."""
    events = repository.events_since(job.id, since, limit)
    is_over = Status(job.status) in TERMINAL and job.owner is None and len(events) < limit
    return News(tuple(events), job, is_over)


class JobService:
    def __init__(  # noqa: PLR0917 - called by the factory alone
        self,
        work: UnitOfWork,
        context: Context,
        files: FileService,
        bases: BaseService,
        registry: RegistryService,
        pool: PoolService,
        limits: LimitsService,
        audit: AuditService,
        outbox: Outbox,
        budgets: BudgetService,
    ) -> None:
        self._work = work
        self._files = files
        self._bases = bases
        self._registry = registry
        self._audit = audit
        self._pool = pool
        self._limits = limits
        self._budgets = budgets
        self._repository = JobRepository(work.session)
        self._ledger = JobLedger(self._repository, audit, outbox, budgets)
        self._estimates = JobEstimates(self._repository, Quotes(work.session, context.settings), context.recent)

    def submit(self, caller: Caller, body: JobCreate) -> Job:
        """A new job in `validating_files`. `InvalidInput` names the field that is wrong."""
        asked = self._checked(caller, body)
        model, parent, settings, training_file = asked.model, asked.parent, asked.settings, asked.training_file
        recipe = asked_recipe(body)
        self._limits.reserve_place(caller.team_id)
        job = Job(
            id=new_id(Prefix.JOB),
            team_id=caller.team_id,
            created_by=caller.actor,
            status=Status.VALIDATING_FILES,
            base_id=model.base.id,
            parent_model_id=None if parent is None else model.id,
            parent_adapter=parent,
            training_file=training_file.id,
            validation_file=body.validation_file,
            suffix=body.suffix,
            seed=body.chosen_seed(),
            priority=PRIORITY_LEVELS[body.priority],
            task=None if recipe is None else task_of(recipe),
            method=body.requested_method(),
            hyperparameters=body.requested_hyperparameters(),
            training=settings,
            requirements=body.requirements,
            expectations=stored_expectations(body.expectations),
            costs=None if body.costs is None else body.costs.model_dump(mode="json"),
            user_metadata=body.metadata,
            integrations=None
            if body.integrations is None
            else [item.model_dump(mode="json", exclude_none=True) for item in body.integrations],
        )
        job.estimate = self._estimates.make(_plan(body, asked), self._pool.live_devices()).model_dump(mode="json")
        self._repository.add(job)
        self._reserve(job)
        self._audit.record(
            caller.team_id,
            caller.actor,
            "job.create",
            job.id,
            model=body.model,
            training_file=training_file.id,
            training_file_sha256=training_file.sha256,
            validation_file=body.validation_file,
        )
        said = (event_texts.created(job.id), event_texts.validating(job.training_file, job.validation_file))
        self._ledger.say(job, *said)
        if body.integrations:
            kinds = ", ".join(sorted({item.type for item in body.integrations}))
            self._ledger.say(job, event_texts.integrations_stored(kinds), level="warn")
        self._work.ring(Queue.CPU)
        return job

    def plan(self, caller: Caller, body: JobCreate) -> tuple[Plan, File]:
        """What would be submitted, to be estimated, and its training file; the same refusals. Stores nothing."""
        asked = self._checked(caller, body)
        return _plan(body, asked), asked.training_file

    def estimate(self, plan: Plan) -> EstimateObject:
        """What a run would take."""
        return self._estimates.make(plan, self._pool.live_devices())

    def _checked(self, caller: Caller, body: JobCreate) -> _Asked:
        """`InvalidInput` names the field that is wrong."""
        body.check_method()
        check_sheet(body.requirements)
        settings = as_asked(body.training)
        check_settings(body, settings)
        if body.suffix is not None and not is_suffix(body.suffix):
            raise InvalidInput("A suffix has 1 to 64 of the characters A-Z, a-z, 0-9, '-' and '_'.", param="suffix")
        model = self._resolve(caller, body.model)
        parent = describe_parent(model, self._spec_of(model))
        check_fits(body, settings, model.base_row, parent)
        training_file = fine_tune_file(self._files, caller, body.training_file, "training_file")
        if body.validation_file is not None:
            fine_tune_file(self._files, caller, body.validation_file, "validation_file")
        return _Asked(model, parent, settings, training_file)

    def get(self, caller: Caller, job_id: str) -> Job:
        return own_job(caller, job_id, self._repository.find(caller.team_id, job_id))

    def evaluation(self, caller: Caller, job_id: str) -> Evaluation:
        """What was found on the held-out rows; `NotFound` while, or where, there is nothing."""
        job = self.get(caller, job_id)
        if job.evaluation is None:
            raise NotFound(
                f"The job '{job_id}' has no evaluation yet. It is made after training, where rows are held out.",
                param="job_id",
            )
        return Evaluation.model_validate({"run_id": job.id, **job.evaluation})

    def queue_hint(self, job: Job) -> QueueHint | None:
        """Why a queued job still waits; None for every other job."""
        if job.status != Status.QUEUED:
            return None
        snapshot = self._pool.snapshot_around(job, may_be_recent=True)
        before = position(snapshot, job.id)
        if before is None:
            return QueueHint(jobs_before=0, message="The job waits a moment before its next attempt.")
        return QueueHint(jobs_before=before, message=explain(snapshot, job.id))

    def list_jobs(
        self, caller: Caller, *, metadata: dict[str, str] | None, no_metadata: bool, after: str | None, limit: int
    ) -> Page[Job]:
        return self._repository.list(
            caller.team_id, metadata=metadata, no_metadata=no_metadata, after=after, limit=limit
        )

    def cancel(self, caller: Caller, job_id: str) -> Job:
        """Cancelled at once; its worker saves what there is and stops at its next heartbeat."""
        job = self._locked(caller, job_id)
        self._move(job, _following(job, Event.CANCEL), Event.CANCEL, caller, event_texts.CANCELLED)
        return job

    def pause(self, caller: Caller, job_id: str) -> Job:
        """Paused at once; its worker saves a checkpoint and lets go of it."""
        job = self._locked(caller, job_id)
        self._move(job, _following(job, Event.PAUSE), Event.PAUSE, caller, event_texts.PAUSED)
        return job

    def resume(self, caller: Caller, job_id: str) -> Job:
        """Back to the queue, to go on from its last checkpoint."""
        job = self._locked(caller, job_id)
        # For the error of a job that cannot be resumed.
        _following(job, Event.RESUME)
        following = resumed(Status(job.status), is_validated=job.spec is not None)
        if job.status == Status.PAUSED:
            self._reserve(job)
        self._move(job, following, Event.RESUME, caller, event_texts.RESUMED)
        if following is Status.QUEUED:
            self._work.ring(Queue.GPU)
        if following is Status.VALIDATING_FILES:
            self._work.ring(Queue.CPU)
        return job

    def events(self, caller: Caller, job_id: str, *, after: str | None, limit: int) -> Page[JobEvent]:
        """Newest first."""
        return self._repository.events(self.get(caller, job_id).id, after=after, limit=limit)

    def checkpoints(self, caller: Caller, job_id: str, *, after: str | None, limit: int) -> Page[CheckpointRow]:
        """Newest first."""
        return self._repository.checkpoints(self.get(caller, job_id).id, after=after, limit=limit)

    def metrics(self, caller: Caller, job_id: str, *, after_step: int, limit: int) -> tuple[list[JobMetric], bool]:
        """Oldest step first, and whether there are more."""
        rows = self._repository.metrics(self.get(caller, job_id).id, after_step=after_step, limit=limit + 1)
        return list(rows[:limit]), len(rows) > limit

    def news(self, caller: Caller, job_id: str, *, since: int, limit: int) -> News:
        """Events after a sequence number, oldest first."""
        return read_news(self._repository, self.get(caller, job_id), since=since, limit=limit)

    def _locked(self, caller: Caller, job_id: str) -> Job:
        job = self._repository.lock(caller.team_id, job_id)
        if job is None:
            raise _absent(job_id)
        return job

    def _move(self, job: Job, following: Status, event: Event, caller: Caller, said: str) -> None:
        self._ledger.move(job, following, event, caller.actor, said)
        self._repository.flush()

    def _reserve(self, job: Job) -> None:
        """`QuotaExceeded` if the team's budget has no room for what the job still needs."""
        quoted, used = job.estimate or {}, job.usage or {}
        self._budgets.reserve(
            job.team_id,
            job.id,
            quoted.get("gpu_seconds"),
            (quoted.get("cost") or {}).get("value"),
            used_seconds=used.get("gpu_seconds", 0.0),
        )

    def _resolve(self, caller: Caller, model_id: str) -> ResolvedModel:
        """A base, or a fine-tuned model to continue from."""
        try:
            return self._registry.resolve(caller, model_id)
        except NotFound as error:
            raise InvalidInput(error.message, param="model", code=error.code) from None

    def _spec_of(self, model: ResolvedModel) -> Json | None:
        """How the job that made a model adapted its base."""
        return None if model.job_id is None else self._repository.find_spec(model.job_id)


def _plan(body: JobCreate, asked: _Asked) -> Plan:
    return Plan(
        model_id=asked.model.id,
        base=asked.model.base_row,
        file_bytes=asked.training_file.bytes,
        requested=body.requested_hyperparameters(),
        training=asked.settings,
    )


def own_job(caller: Caller, job_id: str, job: Job | None) -> Job:
    """A job that was looked for; `NotFound` unless it is there and the caller's team's."""
    if job is None or job.team_id != caller.team_id:
        raise _absent(job_id)
    return job


def fine_tune_file(files: FileService, caller: Caller, file_id: str, param: str) -> File:
    """A file of rows that the caller's team may use; `InvalidInput` names `param`."""
    try:
        file = files.get(caller.team_id, file_id, param=param)
    except NotFound:
        raise InvalidInput(f"invalid {param}: {file_id}", param=param, code="invalid_file") from None
    if file.purpose != Purpose.FINE_TUNE:
        raise InvalidInput(
            f"The file {file_id} has the purpose '{file.purpose}'; upload it with the purpose 'fine-tune'.",
            param=param,
            code="invalid_file_purpose",
        )
    return file


def _following(job: Job, event: Event) -> Status:
    status = Status(job.status)
    try:
        return after(status, event)
    except IllegalTransition:
        raise Conflict(
            f"Job {job.id} has already {_ENDED[status]}: it cannot be {_PARTICIPLES[event]} any more.",
            code="invalid_job_state",
        ) from None


_ENDED = {Status.SUCCEEDED: "succeeded", Status.FAILED: "failed", Status.CANCELLED: "been cancelled"}
_PARTICIPLES = {Event.CANCEL: "cancelled", Event.PAUSE: "paused", Event.RESUME: "resumed"}


def _absent(job_id: str) -> NotFound:
    return NotFound(f"Could not find fine tune: {job_id}", param="fine_tune_id", code="fine_tune_not_found")
