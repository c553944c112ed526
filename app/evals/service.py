"""The verbs of an eval's owner: create, look, rename, run, cancel, delete."""

from app.audit.service import AuditService
from app.chat.service import ChatService
from app.context import Context
from app.contracts.tasks import Queue
from app.db.engine import UnitOfWork
from app.db.keyset import Page
from app.db.tables import Eval, EvalOutputItem, EvalRun
from app.errors import Conflict, InvalidInput, NotFound
from app.evals.graders.refusals import models_of, refuse_unserved
from app.evals.repository import EvalRepository
from app.evals.run_messages import AnySource
from app.evals.schemas import (
    EvalCreate,
    EvalUpdate,
    FileId,
    JsonlSource,
    ResponsesSource,
    RunCreate,
    StoredCompletions,
    StoredResponses,
    criteria_adapter,
)
from app.evals.tally import empty
from app.files.service import FileService
from app.identity.caller import Caller
from app.ids import Prefix, new_id
from app.webhooks.event_types import of_run
from app.webhooks.outbox import Outbox

_ENDED = ("completed", "failed")


class EvalService:
    def __init__(  # noqa: PLR0917 - called by the factory alone
        self,
        work: UnitOfWork,
        context: Context,
        files: FileService,
        chat: ChatService,
        audit: AuditService,
        outbox: Outbox,
    ) -> None:
        self._work = work
        self._clock = context.clock
        self._files = files
        self._chat = chat
        self._audit = audit
        self._outbox = outbox
        self._repository = EvalRepository(work.session)

    def create(self, caller: Caller, body: EvalCreate) -> Eval:
        """`InvalidInput` for a grader that this installation cannot run."""
        for place, criterion in enumerate(body.testing_criteria):
            refuse_unserved(criterion, f"testing_criteria[{place}]")
        now = self._clock.now()
        row = Eval(
            id=new_id(Prefix.EVAL),
            team_id=caller.team_id,
            created_by=caller.actor,
            name=body.name or "Eval",
            data_source_config=body.data_source_config.wire(),
            testing_criteria=[criterion.wire() for criterion in body.testing_criteria],
            user_metadata=body.metadata,
            created_at=now,
            updated_at=now,
        )
        self._repository.add(row)
        self._audit.record(caller.team_id, caller.actor, "eval.create", row.id, name=row.name)
        return row

    def get(self, caller: Caller, eval_id: str) -> Eval:
        """`NotFound` for absent and foreign ones alike."""
        row = self._repository.find(caller.team_id, eval_id)
        if row is None:
            raise _absent("eval", eval_id)
        return row

    def page(self, caller: Caller, *, by_update: bool, after: str | None, limit: int, ascending: bool) -> Page[Eval]:
        return self._repository.page(caller.team_id, by_update=by_update, after=after, limit=limit, ascending=ascending)

    def update(self, caller: Caller, eval_id: str, body: EvalUpdate) -> Eval:
        """Name and metadata; criteria never change, so that runs stay comparable."""
        row = self._repository.find(caller.team_id, eval_id, lock=True)
        if row is None:
            raise _absent("eval", eval_id)
        if body.name is not None:
            row.name = body.name
        if "metadata" in body.model_fields_set:
            row.user_metadata = body.metadata
        row.updated_at = self._clock.now()
        self._audit.record(caller.team_id, caller.actor, "eval.update", row.id, name=row.name)
        return row

    def delete(self, caller: Caller, eval_id: str) -> None:
        """With its runs; workers that score one of them stop at their next write."""
        row = self._repository.find(caller.team_id, eval_id, lock=True)
        if row is None:
            raise _absent("eval", eval_id)
        self._repository.delete(row)
        self._audit.record(caller.team_id, caller.actor, "eval.delete", eval_id)

    def start(self, caller: Caller, eval_id: str, body: RunCreate) -> EvalRun:
        """A run in the queue. `InvalidInput` names what it could not be done with."""
        parent = self.get(caller, eval_id)
        source = body.data_source
        model = _checked_model(source)
        if isinstance(source.source, FileId):
            self._files.get(caller.team_id, source.source.id, param="data_source.source.id")
        if model is not None:
            self._check_model(caller, model, "data_source.model")
        criteria = criteria_adapter.validate_python(parent.testing_criteria)
        for grading in sorted(set().union(*(models_of(criterion) for criterion in criteria))):
            self._check_model(caller, grading, "testing_criteria")
        row = EvalRun(
            id=new_id(Prefix.EVAL_RUN),
            eval_id=parent.id,
            team_id=caller.team_id,
            created_by=caller.actor,
            name=body.name or (model or "Run"),
            status="queued",
            model=model,
            data_source=source.wire(),
            user_metadata=body.metadata,
            tally=empty(len(criteria)),
            created_at=self._clock.now(),
        )
        self._repository.add(row)
        self._audit.record(caller.team_id, caller.actor, "eval_run.create", row.id, eval_id=eval_id, model=model)
        self._work.ring(Queue.CPU)
        return row

    def run(self, caller: Caller, eval_id: str, run_id: str) -> EvalRun:
        row = self._repository.find_run(caller.team_id, eval_id, run_id)
        if row is None:
            raise _absent("eval run", run_id)
        return row

    def runs(
        self, caller: Caller, eval_id: str, *, status: str | None, after: str | None, limit: int, ascending: bool
    ) -> Page[EvalRun]:
        parent = self.get(caller, eval_id)
        return self._repository.runs(parent.id, status=status, after=after, limit=limit, ascending=ascending)

    def cancel(self, caller: Caller, eval_id: str, run_id: str) -> EvalRun:
        """Canceled at once; its worker stops at its next heartbeat, and what is done stays."""
        row = self._repository.find_run(caller.team_id, eval_id, run_id, lock=True)
        if row is None:
            raise _absent("eval run", run_id)
        if row.status in _ENDED:
            raise Conflict(
                f"The run {run_id} has already {row.status}: it cannot be canceled any more.", code="invalid_run_state"
            )
        if row.status != "canceled":
            before, row.status = row.status, "canceled"
            row.finished_at = self._clock.now()
            self._audit.record(caller.team_id, caller.actor, "eval_run.cancel", row.id, before=before)
            self._outbox.announce(caller.team_id, of_run(row.status), row.id)
        return row

    def delete_run(self, caller: Caller, eval_id: str, run_id: str) -> None:
        row = self._repository.find_run(caller.team_id, eval_id, run_id, lock=True)
        if row is None:
            raise _absent("eval run", run_id)
        self._repository.delete(row)
        self._audit.record(caller.team_id, caller.actor, "eval_run.delete", run_id, eval_id=eval_id)

    def item(self, caller: Caller, eval_id: str, run_id: str, item_id: str) -> EvalOutputItem:
        row = self._repository.find_item(self.run(caller, eval_id, run_id).id, item_id)
        if row is None:
            raise _absent("output item", item_id)
        return row

    def items(
        self,
        caller: Caller,
        eval_id: str,
        run_id: str,
        *,
        status: str | None,
        after: str | None,
        limit: int,
        ascending: bool,
    ) -> Page[EvalOutputItem]:
        """Items that are done, in the order of the data."""
        run = self.run(caller, eval_id, run_id)
        return self._repository.items(run.id, status=status, after=after, limit=limit, ascending=ascending)

    def _check_model(self, caller: Caller, model_id: str, param: str) -> None:
        try:
            self._chat.find_model(caller, model_id)
        except NotFound as error:
            raise InvalidInput(error.message, param=param, code=error.code) from None


def _checked_model(source: AnySource) -> str | None:
    """The model that is sampled. `InvalidInput` for a source that cannot be served or does not fit together."""
    if isinstance(source, JsonlSource):
        return None
    if isinstance(source.source, StoredResponses):
        raise InvalidInput(
            "Stored responses are not kept here, so they cannot be the source of a run. Send the rows as file_content "
            "or file_id, or use stored chat completions: a data source of type 'completions' with the source "
            "'stored_completions'.",
            param="data_source.source.type",
            code="unsupported_data_source",
        )
    if isinstance(source, ResponsesSource):
        _check_tools(source)
    is_stored = isinstance(source.source, StoredCompletions)
    if source.model is None and (source.input_messages is not None or source.sampling_params is not None):
        raise InvalidInput("Missing required parameter: 'data_source.model'.", param="data_source.model")
    if source.model is not None and source.input_messages is None and not is_stored:
        raise InvalidInput(
            "Missing required parameter: 'data_source.input_messages': what the model is asked about each item.",
            param="data_source.input_messages",
        )
    return source.model


def _check_tools(source: ResponsesSource) -> None:
    if source.sampling_params is not None and source.sampling_params.tools:
        raise InvalidInput(
            "A 'responses' data source cannot have tools here: answers are sampled through chat completions. Use a "
            "data source of type 'completions', whose tools are functions.",
            param="data_source.sampling_params.tools",
            code="unsupported_tools",
        )


def _absent(kind: str, object_id: str) -> NotFound:
    return NotFound(f"There is no {kind} '{object_id}' in your team.", code="not_found")
