"""/v1/organization/admin_api_keys: the keys of operators."""

from datetime import timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Depends

from app.api.dependencies import ServicesDep, allow
from app.api.edge import WorkRoute, keep_answer_secret
from app.api.pagination import After, Limit20, ListPage, list_page
from app.identity.caller import Caller
from app.identity.organization_schemas import (
    AdminKeyCreate,
    AdminKeyObject,
    Deleted,
    NewAdminKeyObject,
    admin_key_object,
    new_admin_key_object,
)
from app.identity.policy import Permission, Role

router = APIRouter(prefix="/v1/organization/admin_api_keys", route_class=WorkRoute, tags=["Organization"])
Operator = Annotated[Caller, Depends(allow(Permission.ORGANIZATION_WRITE))]
OPERATOR_ONLY = [Depends(allow(Permission.ORGANIZATION_WRITE))]


@router.get("", dependencies=OPERATOR_ONLY)
def list_admin_keys(
    services: ServicesDep, after: After = None, limit: Limit20 = 20, order: Literal["asc", "desc"] = "asc"
) -> ListPage[AdminKeyObject]:
    """The operators' keys, without their texts."""
    page = services.projects.list_operator_keys(after=after, limit=limit, ascending=order == "asc")
    return list_page([admin_key_object(row) for row in page.rows], has_more=page.has_more)


@router.post("", dependencies=[Depends(keep_answer_secret)])
def create_admin_key(caller: Operator, services: ServicesDep, body: AdminKeyCreate) -> NewAdminKeyObject:
    """Make an operator's key of your team. Its text is shown in this answer only."""
    lifetime = None if body.expires_in_seconds is None else timedelta(seconds=body.expires_in_seconds)
    row, text = services.identity.create_key_of_caller(
        caller, caller.team_id, body.name, Role.OPERATOR, expires_after=lifetime, permissions=None
    )
    return new_admin_key_object(row, text)


@router.get("/{key_id}", dependencies=OPERATOR_ONLY)
def get_admin_key(key_id: str, services: ServicesDep) -> AdminKeyObject:
    """One operator's key, without its text."""
    return admin_key_object(services.projects.get_operator_key(key_id))


@router.delete("/{key_id}")
def delete_admin_key(key_id: str, caller: Operator, services: ServicesDep) -> Deleted:
    """Revoke an operator's key; it stops working at once."""
    services.projects.revoke_operator_key(caller, key_id)
    return Deleted(id=key_id, object="organization.admin_api_key.deleted")
