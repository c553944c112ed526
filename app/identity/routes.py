"""/v1/teams/keys: an admin lists, makes and revokes the keys of the own team."""

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Depends

from app.api.dependencies import ServicesDep, allow
from app.api.edge import WorkRoute, keep_answer_secret
from app.api.pagination import After, Limit20, ListPage, list_page
from app.identity.caller import Caller
from app.identity.policy import Permission
from app.identity.schemas import KeyCreate, KeyDeleted, KeyObject, NewKeyObject, key_object, new_key_object

router = APIRouter(prefix="/v1/teams/keys", route_class=WorkRoute, tags=["Teams"])
Admin = Annotated[Caller, Depends(allow(Permission.TEAM_WRITE))]


@router.post("", dependencies=[Depends(keep_answer_secret)])
def create_key(caller: Admin, services: ServicesDep, body: KeyCreate) -> NewKeyObject:
    """Make a key of your team. Its text is shown in this answer only."""
    lifetime = None if body.expires_after_seconds is None else timedelta(seconds=body.expires_after_seconds)
    row, text = services.identity.create_key_of_caller(
        caller, caller.team_id, body.name, body.role, expires_after=lifetime, permissions=body.permissions
    )
    return new_key_object(row, text)


@router.get("")
def list_keys(caller: Admin, services: ServicesDep, after: After = None, limit: Limit20 = 20) -> ListPage[KeyObject]:
    """The keys of your team, newest first, without their texts."""
    page = services.identity.list_keys(caller, after=after, limit=limit)
    return list_page([key_object(row) for row in page.rows], has_more=page.has_more)


@router.delete("/{key_id}")
def revoke_key(key_id: str, caller: Admin, services: ServicesDep) -> KeyDeleted:
    """Revoke a key; it stops working at once."""
    return KeyDeleted(id=services.identity.revoke_key(caller, key_id).id)
