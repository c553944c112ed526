"""Evaluations on demand: any fine-tuned model, beside its base or an earlier model, on rows of the caller's choice.

Each is a job of the pool: claimed, leased, fenced, explained and ended as trainings are.
"""

from app.audit.service import AuditService
from app.contracts.reports import Evaluation
from app.contracts.tasks import Queue
from app.datasets.tasks import task_of
from app.db.base import Json
from app.db.engine import UnitOfWork
from app.db.keyset import Page
from app.db.tables import Job, JobEvent
from app.errors import Conflict, InvalidInput, NotFound
from app.files.service import FileService
from app.identity.caller import Caller
from app.ids import Prefix, new_id
from app.jobs import event_texts
from app.jobs.evaluable import misfit_of
from app.jobs.evaluation_schemas import EvaluationCreate, result_of
from app.jobs.expectations import stored_expectations
from app.jobs.ledger import JobLedger
from app.jobs.parents import describe_parent
from app.jobs.repository import JobRepository
from app.jobs.service import News, fine_tune_file, read_news
from app.jobs.states import Event, IllegalTransition, JobPurpose, Status, after
from app.jobs.submission import check_sheet
from app.pool.limits import LimitsService
from app.registry.service import RegistryService, ResolvedModel
from app.usage.budgets import BudgetService
from app.webhooks.outbox import Outbox

_LIKE_TRAINING = ("seed", "priority", "method", "hyperparameters", "training", "spec")


class EvaluationService:
    def __init__(  # noqa: PLR0917 - called by the factory alone
        self,
        work: UnitOfWork,
        files: FileService,
        registry: RegistryService,
        limits: LimitsService,
        audit: AuditService,
        outbox: Outbox,
        budgets: BudgetService,
    ) -> None:
        self._work = work
        self._limits = limits
        self._files = files
        self._registry = registry
        self._audit = audit
        self._budgets = budgets
        self._repository = JobRepository(work.session)
        self._ledger = JobLedger(self._repository, audit, outbox, budgets)

    def submit(self, caller: Caller, body: EvaluationCreate) -> Job:
        """A new evaluation in `validating_files`. `InvalidInput` names the field that is wrong."""
        model = self._tuned(caller, body.model, "model")
        against = None if body.against is None else self._tuned(caller, body.against, "against")
        problem = None if against is None else misfit_of(model, against)
        if problem is not None:
            raise InvalidInput(f"{problem}: their figures cannot stand side by side.", param="against")
        file = fine_tune_file(self._files, caller, body.file, "file")
        maker = self._repository.find_of_any_team(model.job_id or "")
        if maker is None or maker.spec is None:
            raise InvalidInput(f"`{model.id}` was made by a job that is no longer known.", param="model")
        if file.id == maker.training_file:
            raise InvalidInput(
                f"`{model.id}` was trained on {file.id}: its scores there say what it remembers. Give rows it has not "
                "seen.",
                param="file",
                code="rows_were_trained_on",
            )
        is_ours = maker.team_id == caller.team_id
        sheet = body.requirements or (maker.requirements if is_ours else None)
        check_sheet(sheet)
        self._limits.reserve_place(caller.team_id)
        job = Job(
            id=new_id(Prefix.EVALUATION),
            team_id=caller.team_id,
            created_by=caller.actor,
            purpose=JobPurpose.EVALUATION,
            status=Status.VALIDATING_FILES,
            base_id=model.base.id,
            parent_model_id=model.id,
            parent_adapter=describe_parent(model, maker.spec),
            against_model_id=None if against is None else against.id,
            against_adapter=None if against is None else describe_parent(against, self._spec_of(against)),
            # Beside the rows it was trained on, those that it has seen are known; else the rows stand alone.
            training_file=maker.training_file if self._can_read(caller, maker) else file.id,
            validation_file=file.id,
            requirements=sheet,
            expectations=stored_expectations(body.expectations) or (maker.expectations if is_ours else None),
            costs=maker.costs if is_ours else None,
            user_metadata=body.metadata,
            task=task_of(maker.spec.get("recipe", "chat")),
            **{name: getattr(maker, name) for name in _LIKE_TRAINING},
        )
        self._repository.add(job)
        self._budgets.reserve(job.team_id, job.id, None, None)
        self._audit.record(
            caller.team_id,
            caller.actor,
            "evaluation.create",
            job.id,
            model=model.id,
            against=job.against_model_id,
            file=file.id,
            file_sha256=file.sha256,
        )
        self._ledger.say(job, event_texts.evaluating(model.id, file.id, job.against_model_id or job.base_id))
        self._work.ring(Queue.CPU)
        return job

    def get(self, caller: Caller, evaluation_id: str) -> Job:
        row = self._repository.find(caller.team_id, evaluation_id, JobPurpose.EVALUATION)
        return own_evaluation(caller, evaluation_id, row)

    def result(self, caller: Caller, evaluation_id: str) -> Evaluation:
        """What was found; `NotFound` while there is nothing."""
        job = self.get(caller, evaluation_id)
        if job.evaluation is None:
            raise NotFound(
                f"The evaluation '{evaluation_id}' has no result: it is {job.status}.", param="evaluation_id"
            )
        return result_of(job)

    def page(self, caller: Caller, *, model_id: str | None, after: str | None, limit: int) -> Page[Job]:
        """Newest first."""
        return self._repository.list(
            caller.team_id, model_id=model_id, purpose=JobPurpose.EVALUATION, after=after, limit=limit
        )

    def cancel(self, caller: Caller, evaluation_id: str) -> Job:
        """Cancelled at once; its worker stops at its next heartbeat."""
        job = self._repository.lock(caller.team_id, evaluation_id, JobPurpose.EVALUATION)
        if job is None:
            raise _absent(evaluation_id)
        try:
            following = after(Status(job.status), Event.CANCEL)
        except IllegalTransition:
            message = f"The evaluation {job.id} is over ({job.status}): it cannot be cancelled any more."
            raise Conflict(message, code="invalid_job_state") from None
        self._ledger.move(job, following, Event.CANCEL, caller.actor, event_texts.EVALUATION_CANCELLED)
        self._repository.flush()
        return job

    def events(self, caller: Caller, evaluation_id: str, *, after: str | None, limit: int) -> Page[JobEvent]:
        """Newest first."""
        return self._repository.events(self.get(caller, evaluation_id).id, after=after, limit=limit)

    def news(self, caller: Caller, evaluation_id: str, *, since: int, limit: int) -> News:
        """Events after a sequence number, oldest first."""
        return read_news(self._repository, self.get(caller, evaluation_id), since=since, limit=limit)

    def _tuned(self, caller: Caller, model_id: str, param: str) -> ResolvedModel:
        try:
            model = self._registry.resolve(caller, model_id)
        except NotFound as error:
            raise InvalidInput(error.message, param=param, code=error.code) from None
        if model.adapter is None:
            raise InvalidInput(
                f"`{model_id}` is a base. Name a fine-tuned model: its base stands beside it anyway.", param=param
            )
        return model

    def _spec_of(self, model: ResolvedModel) -> Json | None:
        return self._repository.find_spec(model.job_id or "")

    def _can_read(self, caller: Caller, maker: Job) -> bool:
        """Whether the training file of a model is there, and the caller's."""
        try:
            self._files.get(caller.team_id, maker.training_file, param="model")
        except NotFound:
            return False
        return True


def own_evaluation(caller: Caller, evaluation_id: str, job: Job | None) -> Job:
    """An evaluation that was looked for; `NotFound` unless it is there and the caller's team's."""
    if job is None or job.team_id != caller.team_id:
        raise _absent(evaluation_id)
    return job


def _absent(evaluation_id: str) -> NotFound:
    return NotFound(f"Could not find evaluation: {evaluation_id}", param="evaluation_id", code="evaluation_not_found")
