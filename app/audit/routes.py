"""GET /v1/audit: what happened in the caller's team."""

from typing import Annotated

from fastapi import APIRouter, Depends

from app.api.dependencies import ServicesDep, allow
from app.api.edge import WorkRoute
from app.api.pagination import After, Limit20, ListPage, list_page
from app.audit.schemas import AuditEventObject, audit_event_object, sequence_of
from app.identity.caller import Caller
from app.identity.policy import Permission

router = APIRouter(prefix="/v1", route_class=WorkRoute, tags=["Audit"])


@router.get("/audit")
def list_audit_events(
    caller: Annotated[Caller, Depends(allow(Permission.AUDIT_READ))],
    services: ServicesDep,
    after: After = None,
    limit: Limit20 = 20,
    object_id: str | None = None,
) -> ListPage[AuditEventObject]:
    """Who did what to which object, newest first."""
    page = services.audit.page(caller.team_id, object_id=object_id, after=sequence_of(after), limit=limit)
    return list_page([audit_event_object(row) for row in page.rows], has_more=page.has_more)
