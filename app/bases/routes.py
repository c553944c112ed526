"""/v1/bases: the base models that can be fine-tuned here."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.concurrency import run_in_threadpool

from app.api.dependencies import ServicesDep, allow
from app.api.edge import WorkRoute, release
from app.api.pagination import After, Limit20, ListPage, list_page
from app.bases.schemas import BaseCreate, BaseDeleted, BaseObject, base_object
from app.db.tables import BaseModelRow
from app.factory import Services
from app.identity.caller import Caller
from app.identity.policy import Permission

router = APIRouter(prefix="/v1/bases", route_class=WorkRoute, tags=["Base models"])
Reader = Annotated[Caller, Depends(allow(Permission.MODELS_READ))]
Operator = Annotated[Caller, Depends(allow(Permission.BASES_WRITE))]


@router.post("")
async def register_base(request: Request, caller: Operator, services: ServicesDep, body: BaseCreate) -> BaseObject:
    """Register a folder that lies on the server. Every file is checked and hashed; repeating it is harmless."""
    await release(request)
    return base_object(await run_in_threadpool(_register, caller, services, body))


@router.get("")
def list_bases(_: Reader, services: ServicesDep, after: After = None, limit: Limit20 = 20) -> ListPage[BaseObject]:
    """The base models of this service."""
    page = services.bases.page(after=after, limit=limit)
    return list_page([base_object(row) for row in page.rows], has_more=page.has_more)


@router.get("/{base_id}")
def get_base(base_id: str, _: Reader, services: ServicesDep) -> BaseObject:
    """One base model, with the hashes of its files."""
    return base_object(services.bases.get(base_id))


@router.delete("/{base_id}")
def delete_base(base_id: str, caller: Operator, services: ServicesDep) -> BaseDeleted:
    """Take a base model that nothing refers to out of the registry; its folder stays."""
    services.bases.delete(caller, base_id)
    return BaseDeleted(id=base_id)


def _register(caller: Caller, services: Services, body: BaseCreate) -> BaseModelRow:
    folder = services.bases.inspect(body.id)
    return services.bases.register(caller.actor, body.id, folder, licence=body.licence, source=body.source)
