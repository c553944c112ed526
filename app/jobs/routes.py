"""/v1/fine_tuning/jobs: OpenAI's routes, then `metrics`, `evaluation` and `stream` of ours."""

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, StreamingResponse

from app.api.dependencies import ContextDep, ServicesDep, allow, at_once
from app.api.edge import WorkRoute, release
from app.api.pagination import After, Limit10, Limit20, ListPage, list_page
from app.contracts.reports import Evaluation
from app.db.scope import team_scope
from app.db.tables import File, Job
from app.factory import Services
from app.identity.caller import Caller
from app.identity.policy import Permission
from app.jobs.estimates import EstimateObject, count_rows, plan_of_rows
from app.jobs.following import PAGE_EVENTS, event_stream, sequence_of
from app.jobs.objects import (
    CheckpointObject,
    EventObject,
    JobObject,
    MetricsPage,
    checkpoint_object,
    event_object,
    job_object,
    metrics_page,
)
from app.jobs.queue_objects import QueueObject, queue_object
from app.jobs.repository import FIND_TRAINING
from app.jobs.schemas import JobCreate
from app.jobs.service import News, own_job
from app.jobs.states import Status
from app.jobs.submission import asked_recipe
from app.reports.page import page

router = APIRouter(prefix="/v1/fine_tuning/jobs", route_class=WorkRoute, tags=["Fine-tuning"])
Reader = Annotated[Caller, Depends(allow(Permission.JOBS_READ))]
Writer = Annotated[Caller, Depends(allow(Permission.JOBS_WRITE))]
FoundJob = Annotated[Job | None, Depends(at_once(FIND_TRAINING))]


@router.post("")
def create_job(caller: Writer, services: ServicesDep, body: JobCreate) -> JobObject:
    """Start a fine-tuning job."""
    return job_object(services.jobs.submit(caller, body))


@router.post("/estimate")
async def estimate_job(request: Request, caller: Writer, services: ServicesDep, body: JobCreate) -> EstimateObject:
    """What such a job would take: tokens, time, memory, cost. Nothing is stored.

    The same body and refusals as to create it. Rows are counted in the beginning of the file; time is measured from
    earlier jobs on the same base.
    """
    plan, file = await run_in_threadpool(services.jobs.plan, caller, body)
    await release(request)
    rows = await run_in_threadpool(_rows_of, services, file)
    if rows is not None:
        has_validation_file = body.validation_file is not None
        plan = plan_of_rows(plan, rows, asked_recipe(body), has_validation_file=has_validation_file)
    return await run_in_threadpool(services.jobs.estimate, plan)


@router.get("")
def list_jobs(
    request: Request,
    caller: Reader,
    services: ServicesDep,
    after: After = None,
    limit: Limit20 = 20,
) -> ListPage[JobObject]:
    """Your team's jobs, newest first. `metadata[key]=value` filters; `metadata=null` asks for jobs without any."""
    metadata = {
        name[len("metadata[") : -1]: value
        for name, value in request.query_params.items()
        if name.startswith("metadata[") and name.endswith("]")
    }
    page = services.jobs.list_jobs(
        caller,
        metadata=metadata,
        no_metadata=request.query_params.get("metadata") == "null",
        after=after,
        limit=limit,
    )
    return list_page([job_object(job, is_brief=True) for job in page.rows], has_more=page.has_more)


@router.get("/{job_id}")
async def get_job(job_id: str, caller: Reader, services: ServicesDep, row: FoundJob) -> JobObject:
    """One job, with what its data, its training and its evaluation have shown so far."""
    job = own_job(caller, job_id, row)
    waits = job.status == Status.QUEUED
    return job_object(job, queue=await run_in_threadpool(services.jobs.queue_hint, job) if waits else None)


@router.get("/{job_id}/queue")
def get_job_queue(job_id: str, caller: Reader, services: ServicesDep) -> QueueObject:
    """Where the job stands, why it waits, and when it should start by what earlier jobs of its base took."""
    return queue_object(services.job_queue.standing(caller, job_id))


@router.post("/{job_id}/cancel")
def cancel_job(job_id: str, caller: Writer, services: ServicesDep) -> JobObject:
    """Cancel at once. What was trained until now is kept as a checkpoint."""
    return job_object(services.jobs.cancel(caller, job_id))


@router.post("/{job_id}/pause")
def pause_job(job_id: str, caller: Writer, services: ServicesDep) -> JobObject:
    """Give the GPU back; the job keeps its state until it is resumed."""
    return job_object(services.jobs.pause(caller, job_id))


@router.post("/{job_id}/resume")
def resume_job(job_id: str, caller: Writer, services: ServicesDep) -> JobObject:
    """Queue a paused job again; it goes on where it stopped."""
    return job_object(services.jobs.resume(caller, job_id))


@router.get("/{job_id}/events")
def list_job_events(
    job_id: str, caller: Reader, services: ServicesDep, after: After = None, limit: Limit20 = 20
) -> ListPage[EventObject]:
    """What happened, newest first."""
    page = services.jobs.events(caller, job_id, after=after, limit=limit)
    return list_page([event_object(event) for event in page.rows], has_more=page.has_more)


@router.get("/{job_id}/checkpoints")
def list_job_checkpoints(
    job_id: str, caller: Reader, services: ServicesDep, after: After = None, limit: Limit10 = 10
) -> ListPage[CheckpointObject]:
    """Checkpoints that can be used as models, newest first."""
    page = services.jobs.checkpoints(caller, job_id, after=after, limit=limit)
    return list_page([checkpoint_object(row) for row in page.rows], has_more=page.has_more)


@router.get("/{job_id}/metrics")
def list_job_metrics(
    job_id: str,
    caller: Reader,
    services: ServicesDep,
    after_step: Annotated[int, Query(ge=0, le=2**31 - 1, description="the last step you have")] = 0,
    limit: Annotated[int, Query(ge=0, le=10_000, description="steps on a page")] = 1000,
) -> MetricsPage:
    """The figures of every optimizer step, oldest first."""
    rows, has_more = services.jobs.metrics(caller, job_id, after_step=after_step, limit=limit)
    return metrics_page(rows, has_more=has_more)


@router.get("/{job_id}/evaluation")
def get_job_evaluation(job_id: str, caller: Reader, services: ServicesDep) -> Evaluation:
    """Base beside tuned: every figure with its interval, the paired comparison, baselines, and a paragraph in words."""
    return services.jobs.evaluation(caller, job_id)


@router.get("/{job_id}/evaluation/report", response_class=HTMLResponse)
def get_job_report(job_id: str, caller: Reader, services: ServicesDep) -> HTMLResponse:
    """The evaluation as one self-contained HTML page."""
    evaluation = services.jobs.evaluation(caller, job_id)
    job = services.jobs.get(caller, job_id)
    model = job.tuned_model_id or job.id
    subtitle = f"{model}, tuned from {job.base_id} by {job.id}"
    return HTMLResponse(page(evaluation, title="Is the tuned model better?", subtitle=subtitle))


@router.get("/{job_id}/stream", response_class=StreamingResponse)
def stream_job(
    job_id: str,
    caller: Reader,
    services: ServicesDep,
    context: ContextDep,
    last_event_id: Annotated[str | None, Header(description="go on after this event of the stream")] = None,
) -> StreamingResponse:
    """Events, metrics and status changes as server-sent events, until the job is over."""
    services.jobs.get(caller, job_id)

    def read(since: int) -> News:
        with context.database.unit_of_work(team_scope(caller.team_id)) as work:
            return Services(context, work).jobs.news(caller, job_id, since=since, limit=PAGE_EVENTS)

    return event_stream(read, since=sequence_of(last_event_id))


def _rows_of(services: Services, file: File) -> int | None:
    """None for a file whose rows are not lines."""
    if not file.filename.lower().endswith((".jsonl", ".json", ".csv", ".tsv")):
        return None
    return count_rows(services.files.open(file), file.bytes)
