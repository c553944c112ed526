"""Wire shapes of the pool (an addition of ours; OpenAI has none)."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.pool.limits import Limits
from app.pool.overview import PoolView, TeamView, WorkerState, WorkerView


class PoolRunObject(BaseModel):
    id: str | None = Field(description="of a job of yours; null for another team's")
    team: str = Field(description="your team's id, or 'another team'")


class PoolWorkerObject(BaseModel):
    id: str
    object: Literal["pool.worker"] = "pool.worker"
    status: WorkerState
    drain: Literal["finish", "checkpoint"] | None = Field(description="why it claims nothing more, if so")
    unready: str | None = Field(description="why it claims nothing though it lives, if so: its disk is full")
    host: str
    gpus: int
    memory_bytes: int | None
    compute_capability: str | None
    bases: list[str] | None = Field(description="on its disk; null if it has not said")
    resident_bases: list[str] = Field(description="ids of the base in its engine's memory")
    job: PoolRunObject | None = Field(description="the first of `jobs`")
    jobs: list[PoolRunObject] = Field(description="that run there; several share the GPU in one process")
    last_heard_seconds: float
    device: dict[str, Any]


class PoolJobsObject(BaseModel):
    total: int
    own: int


class PoolTeamObject(BaseModel):
    team: str = Field(description="your team's id, or 'other teams' for all of them together")
    running: int = Field(description="GPUs in use")
    queued: int = Field(description="jobs that could start now")
    weight: float | None
    max_gpus: int | None


class UtilisationObject(BaseModel):
    gpus: int = Field(description="of workers that live")
    busy: int
    share: float | None = Field(description="busy / gpus; null without any GPU")


class PoolObject(BaseModel):
    object: Literal["pool"] = "pool"
    workers: list[PoolWorkerObject]
    utilisation: UtilisationObject
    queue: list[PoolTeamObject]
    jobs: dict[str, PoolJobsObject]


class DrainCreate(BaseModel):
    """`checkpoint`: let go of the job that runs there now, which goes on elsewhere, in place of finishing it."""

    model_config = ConfigDict(strict=True, extra="forbid")

    checkpoint: bool = False


class LimitsChange(BaseModel):
    """What is left out stays as it is; null takes a limit away."""

    model_config = ConfigDict(strict=True, extra="forbid")

    weight: Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)] = 1.0
    max_gpus: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    max_queued_jobs: Annotated[int, Field(ge=0, le=10_000_000)] | None = None
    may_share: bool = True


class LimitsObject(BaseModel):
    object: Literal["organization.project.limits"] = "organization.project.limits"
    project_id: str
    weight: float = Field(description="of its share of the GPUs, beside other teams'")
    max_gpus: int | None = Field(description="GPUs in use at once; null: no limit")
    max_queued_jobs: int | None = Field(description="jobs submitted and not yet running; null: no limit")
    may_share: bool = Field(description="whether its jobs may ride in one process with other teams'")


def pool_object(view: PoolView) -> PoolObject:
    alive = [worker for worker in view.workers if worker.state != "lost"]
    gpus = sum(worker.gpus for worker in alive)
    busy = sum(worker.gpus for worker in alive if worker.runs)
    return PoolObject(
        workers=[worker_object(worker) for worker in view.workers],
        utilisation=UtilisationObject(gpus=gpus, busy=busy, share=busy / gpus if gpus else None),
        queue=[_team_object(team) for team in view.teams],
        jobs={status: PoolJobsObject(total=total, own=own) for status, (total, own) in view.jobs.items()},
    )


def worker_object(worker: WorkerView) -> PoolWorkerObject:
    capability = worker.compute_capability
    jobs = [{"id": run.job_id, "team": run.team_id or "another team"} for run in worker.runs]
    return PoolWorkerObject.model_validate(
        {
            "id": worker.worker_id,
            "status": worker.state,
            "drain": worker.drain,
            "unready": worker.unready,
            "host": worker.host,
            "gpus": worker.gpus,
            "memory_bytes": worker.memory_bytes,
            "compute_capability": None if capability is None else f"{capability // 10}.{capability % 10}",
            "bases": None if worker.bases is None else list(worker.bases),
            "resident_bases": list(worker.resident_bases),
            "job": jobs[0] if jobs else None,
            "jobs": jobs,
            "last_heard_seconds": round(worker.silent_seconds, 1),
            "device": worker.device,
        }
    )


def limits_object(team_id: str, limits: Limits) -> LimitsObject:
    return LimitsObject(
        project_id=team_id,
        weight=limits.weight,
        max_gpus=limits.max_gpus,
        max_queued_jobs=limits.max_queued_jobs,
        may_share=limits.may_share,
    )


def _team_object(team: TeamView) -> PoolTeamObject:
    is_named = team.team_id is not None
    return PoolTeamObject(
        team=team.team_id or "other teams",
        running=team.use.gpus,
        queued=team.use.waiting,
        weight=team.use.weight if is_named else None,
        max_gpus=team.use.max_gpus if is_named else None,
    )
