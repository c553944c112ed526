"""Wire shape of a job's place in the queue (an addition of ours)."""

from typing import Literal

from pydantic import BaseModel, Field

from app.clock import unix_seconds
from app.jobs.queue_service import Standing
from app.jobs.states import Status


class QueueObject(BaseModel):
    object: Literal["fine_tuning.job.queue"] = "fine_tuning.job.queue"
    job_id: str
    status: Status
    position: int | None = Field(description="1: it is next; null unless the job waits for a GPU")
    jobs_before: int | None
    own_jobs_before: int | None = Field(description="of your team's")
    other_jobs_before: int | None
    reason: str = Field(description="why it waits, in words")
    estimated_start: int | None = Field(description="Unix seconds; null if it cannot be said")
    estimated_start_basis: Literal["free_worker", "simulation", "average"] | None = Field(
        description="a worker is free; or the queue was played through; or the mean length of the jobs before was taken"
    )
    estimated_start_reason: str | None = Field(description="why there is no estimate")
    worker: str | None = Field(description="that runs it; null unless the job runs")
    rides_with: int | None = Field(
        description="other jobs, of any team, that share the worker's process and GPU; null unless the job runs"
    )


def queue_object(standing: Standing) -> QueueObject:
    own, others, forecast = standing.own_before, standing.others_before, standing.forecast
    before = None if own is None or others is None else own + others
    return QueueObject(
        job_id=standing.job.id,
        status=Status(standing.job.status),
        position=None if before is None else before + 1,
        jobs_before=before,
        own_jobs_before=own,
        other_jobs_before=others,
        reason=standing.why,
        estimated_start=None if forecast is None or forecast.start is None else unix_seconds(forecast.start),
        estimated_start_basis=None if forecast is None else forecast.basis,
        estimated_start_reason=None if forecast is None else forecast.reason,
        worker=standing.worker_id,
        rides_with=standing.rides_with,
    )
