"""The shared pool: workers, who uses what, draining; and what a team may have of it."""

from typing import Annotated

from fastapi import APIRouter, Depends

from app.api.dependencies import ServicesDep, allow
from app.api.edge import WorkRoute
from app.identity.caller import Caller
from app.identity.policy import Permission
from app.pool.schemas import (
    DrainCreate,
    LimitsChange,
    LimitsObject,
    PoolObject,
    PoolWorkerObject,
    limits_object,
    pool_object,
    worker_object,
)

router = APIRouter(prefix="/v1", route_class=WorkRoute, tags=["Pool"])
Reader = Annotated[Caller, Depends(allow(Permission.POOL_READ))]
Operator = Annotated[Caller, Depends(allow(Permission.POOL_WRITE))]
Admin = Annotated[Caller, Depends(allow(Permission.TEAM_WRITE))]


@router.get("/pool")
def get_pool(caller: Reader, services: ServicesDep) -> PoolObject:
    """Workers with what they run, and who uses and waits for how much. Other teams' jobs have no names here."""
    return pool_object(services.pool.view(caller))


@router.post("/pool/workers/{worker_id}/drain")
def drain_worker(
    worker_id: str, caller: Operator, services: ServicesDep, body: DrainCreate | None = None
) -> PoolWorkerObject:
    """The worker claims nothing more; it finishes its job, or checkpoints it and lets it go on elsewhere."""
    checkpoint = body is not None and body.checkpoint
    return worker_object(services.pool.drain(caller, worker_id, checkpoint=checkpoint))


@router.post("/pool/workers/{worker_id}/resume")
def resume_worker(worker_id: str, caller: Operator, services: ServicesDep) -> PoolWorkerObject:
    """The worker claims jobs again."""
    return worker_object(services.pool.undrain(caller, worker_id))


@router.get("/organization/projects/{project_id}/limits")
def get_limits(project_id: str, caller: Admin, services: ServicesDep) -> LimitsObject:
    """What a team may have of the pool: an admin's own team, or any for the operator."""
    return limits_object(project_id, services.limits.get(caller, project_id))


@router.post("/organization/projects/{project_id}/limits")
def change_limits(project_id: str, caller: Operator, services: ServicesDep, body: LimitsChange) -> LimitsObject:
    """Set what a team may have of the pool. What is left out stays as it is."""
    changes = body.model_dump(exclude_unset=True)
    return limits_object(project_id, services.limits.change(caller, project_id, changes))
