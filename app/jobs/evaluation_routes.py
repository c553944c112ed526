"""/v1/evaluations: any fine-tuned model on rows of one's choice, beside its base or an earlier model."""

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, StreamingResponse

from app.api.dependencies import ContextDep, ServicesDep, allow, at_once
from app.api.edge import WorkRoute
from app.api.pagination import After, Limit20, ListPage, list_page
from app.db.scope import team_scope
from app.db.tables import Job
from app.factory import Services
from app.identity.caller import Caller
from app.identity.policy import Permission
from app.jobs.evaluation_schemas import EvaluationCreate, EvaluationObject, evaluation_object
from app.jobs.evaluations import own_evaluation
from app.jobs.following import PAGE_EVENTS, event_stream, sequence_of
from app.jobs.objects import EventObject, event_object
from app.jobs.repository import FIND_EVALUATION
from app.jobs.service import News
from app.jobs.states import Status
from app.reports.page import page

router = APIRouter(prefix="/v1/evaluations", route_class=WorkRoute, tags=["Evaluations"])
Reader = Annotated[Caller, Depends(allow(Permission.JOBS_READ))]
Writer = Annotated[Caller, Depends(allow(Permission.JOBS_WRITE))]
FoundEvaluation = Annotated[Job | None, Depends(at_once(FIND_EVALUATION))]


@router.post("")
def create_evaluation(caller: Writer, services: ServicesDep, body: EvaluationCreate) -> EvaluationObject:
    """Score a fine-tuned model on rows it has not seen, beside its base or an earlier model."""
    return evaluation_object(services.evaluations.submit(caller, body))


@router.get("")
def list_evaluations(
    *,
    caller: Reader,
    services: ServicesDep,
    model: Annotated[str | None, Query(description="only those of this model")] = None,
    after: After = None,
    limit: Limit20 = 20,
) -> ListPage[EvaluationObject]:
    """Your team's evaluations, newest first."""
    found = services.evaluations.page(caller, model_id=model, after=after, limit=limit)
    return list_page([evaluation_object(job, is_brief=True) for job in found.rows], has_more=found.has_more)


@router.get("/{evaluation_id}")
async def get_evaluation(
    evaluation_id: str, caller: Reader, services: ServicesDep, row: FoundEvaluation
) -> EvaluationObject:
    """One evaluation, and its result once it has one."""
    job = own_evaluation(caller, evaluation_id, row)
    waits = job.status == Status.QUEUED
    return evaluation_object(job, queue=await run_in_threadpool(services.jobs.queue_hint, job) if waits else None)


@router.post("/{evaluation_id}/cancel")
def cancel_evaluation(evaluation_id: str, caller: Writer, services: ServicesDep) -> EvaluationObject:
    """Cancel at once."""
    return evaluation_object(services.evaluations.cancel(caller, evaluation_id))


@router.get("/{evaluation_id}/events")
def list_evaluation_events(
    evaluation_id: str, caller: Reader, services: ServicesDep, after: After = None, limit: Limit20 = 20
) -> ListPage[EventObject]:
    """What happened, newest first."""
    found = services.evaluations.events(caller, evaluation_id, after=after, limit=limit)
    return list_page([event_object(event) for event in found.rows], has_more=found.has_more)


@router.get("/{evaluation_id}/report", response_class=HTMLResponse)
def get_evaluation_report(evaluation_id: str, caller: Reader, services: ServicesDep) -> HTMLResponse:
    """The result as one self-contained HTML page."""
    result = services.evaluations.result(caller, evaluation_id)
    shown = evaluation_object(services.evaluations.get(caller, evaluation_id))
    subtitle = f"{shown.model} beside {shown.against} on {shown.file}; {shown.id}"
    return HTMLResponse(page(result, title="Is the model better?", subtitle=subtitle))


@router.get("/{evaluation_id}/stream", response_class=StreamingResponse)
def stream_evaluation(
    evaluation_id: str,
    caller: Reader,
    services: ServicesDep,
    context: ContextDep,
    last_event_id: Annotated[str | None, Header(description="go on after this event of the stream")] = None,
) -> StreamingResponse:
    """Events and status changes as server-sent events, until the evaluation is over."""
    services.evaluations.get(caller, evaluation_id)

    def read(since: int) -> News:
        with context.database.unit_of_work(team_scope(caller.team_id)) as work:
            return Services(context, work).evaluations.news(caller, evaluation_id, since=since, limit=PAGE_EVENTS)

    return event_stream(read, since=sequence_of(last_event_id))
