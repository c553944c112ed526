"""GET /v1/pool: the shared workers, and how many jobs are open."""

from typing import Annotated

from fastapi import APIRouter, Depends

from app.api.dependencies import ServicesDep, allow
from app.api.edge import WorkRoute
from app.identity.caller import Caller
from app.identity.policy import Permission
from app.pool.schemas import PoolObject, pool_object

router = APIRouter(prefix="/v1", route_class=WorkRoute, tags=["Pool"])


@router.get("/pool")
def get_pool(caller: Annotated[Caller, Depends(allow(Permission.POOL_READ))], services: ServicesDep) -> PoolObject:
    """Workers with their state, and open jobs by status: of all teams, and your own."""
    return pool_object(services.pool.view(caller.team_id))
