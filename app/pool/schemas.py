"""Wire shapes of the pool (an addition of ours; OpenAI has none)."""

from typing import Any, Literal

from pydantic import BaseModel

from app.pool.service import PoolView


class PoolWorkerObject(BaseModel):
    id: str
    status: Literal["idle", "busy", "lost"]
    device: dict[str, Any]


class PoolJobsObject(BaseModel):
    total: int
    own: int


class PoolObject(BaseModel):
    object: Literal["pool"] = "pool"
    workers: list[PoolWorkerObject]
    jobs: dict[str, PoolJobsObject]


def pool_object(view: PoolView) -> PoolObject:
    return PoolObject(
        workers=[
            PoolWorkerObject(
                id=worker.worker_id,
                status="lost" if not worker.is_alive else "busy" if worker.is_busy else "idle",
                device=worker.device,
            )
            for worker in view.workers
        ],
        jobs={status: PoolJobsObject(total=total, own=own) for status, (total, own) in view.jobs.items()},
    )
