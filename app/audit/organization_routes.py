"""/v1/organization/audit_logs: events as OpenAI lists them, and the chain they form: its head, its rows, its check."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from app.api.dependencies import ServicesDep, allow
from app.api.edge import WorkRoute
from app.api.pagination import After, Limit20, ListPage, list_page
from app.audit.chain import GENESIS, Head
from app.audit.exported import entry_line
from app.audit.organization_schemas import (
    AuditHeadObject,
    AuditLogObject,
    AuditVerdict,
    actions_of,
    actors_of,
    audit_log_object,
    head_object,
    verdict_object,
)
from app.audit.repository import AuditFilter
from app.audit.schemas import sequence_of
from app.errors import NotFound
from app.factory import Services
from app.identity.caller import Caller
from app.identity.policy import Permission

router = APIRouter(prefix="/v1/organization/audit_logs", route_class=WorkRoute, tags=["Organization"])
Reader = Annotated[Caller, Depends(allow(Permission.AUDIT_READ))]
Moment = Annotated[int | None, Query(ge=0, le=253402300799, description="Unix seconds")]
Strings = Annotated[list[str] | None, Query(max_length=100)]
Project = Annotated[
    str | None, Query(description="whose chain; yours if absent. An operator may name any, or 'installation'")
]
Row = Annotated[int, Query(ge=0, lt=2**63, description="a row's number: begin after it")]
Rows = Annotated[int, Query(ge=1, le=10_000, description="rows at most")]


@router.get("")
def list_audit_logs(
    *,
    caller: Reader,
    services: ServicesDep,
    after: After = None,
    limit: Limit20 = 20,
    project_ids: Annotated[Strings, Query(alias="project_ids[]")] = None,
    event_types: Annotated[Strings, Query(alias="event_types[]")] = None,
    actor_ids: Annotated[Strings, Query(alias="actor_ids[]")] = None,
    resource_ids: Annotated[Strings, Query(alias="resource_ids[]")] = None,
    gt: Annotated[Moment, Query(alias="effective_at[gt]")] = None,
    gte: Annotated[Moment, Query(alias="effective_at[gte]")] = None,
    lt: Annotated[Moment, Query(alias="effective_at[lt]")] = None,
    lte: Annotated[Moment, Query(alias="effective_at[lte]")] = None,
) -> ListPage[AuditLogObject]:
    """Who did what to which object, newest first: of your team, or for an operator of all teams."""
    teams = project_ids if caller.is_operator else [caller.team_id]
    if not caller.is_operator and project_ids and caller.team_id not in project_ids:
        teams = []
    wanted = AuditFilter(
        teams=teams,
        object_ids=resource_ids or (),
        actors=actors_of(actor_ids or []),
        actions=actions_of(event_types or []),
        after=_moment(gt),
        at_or_after=_moment(gte),
        before=_moment(lt),
        at_or_before=_moment(lte),
    )
    page = services.audit.search(wanted, after=sequence_of(after), limit=limit)
    return list_page([audit_log_object(row) for row in page.rows], has_more=page.has_more)


@router.get("/head")
def audit_head(caller: Reader, services: ServicesDep, project_id: Project = None) -> AuditHeadObject:
    """The end of a chain. Keep it elsewhere: later it proves that no event before it was changed."""
    return head_object(services.audit.head(_chain(caller, services, project_id)))


@router.get("/rows", response_class=Response)
def audit_rows(
    caller: Reader, services: ServicesDep, project_id: Project = None, after: Row = 0, limit: Rows = 10_000
) -> Response:
    """Rows of a chain in its order, one JSON object a line, with their hashes; the next page is after the last row."""
    entries = services.audit.entries(_chain(caller, services, project_id), after=after, limit=limit)
    text = "".join(f"{entry_line(entry)}\n" for entry in entries)
    return Response(text, media_type="application/x-ndjson")


@router.get("/verify")
def verify_audit_logs(
    *,
    caller: Reader,
    services: ServicesDep,
    project_id: Project = None,
    after: Row = 0,
    limit: Rows = 10_000,
    head_sequence: Annotated[int | None, Query(ge=1, lt=2**63, description="of a head that was exported")] = None,
    head_sha256: Annotated[str, Query(pattern="^[0-9a-f]{64}$")] = GENESIS,
) -> AuditVerdict:
    """Recompute the hashes of a chain, and name each row that is broken."""
    team = _chain(caller, services, project_id)
    exported = None if head_sequence is None else Head(team, head_sequence, head_sha256)
    verdict, has_more = services.audit.verify(team, after=after, limit=limit, exported=exported)
    return verdict_object(verdict, has_more=has_more)


def _chain(caller: Caller, services: Services, project_id: str | None) -> str:
    """The chain that the caller may read; absent and another team's are the same `NotFound`."""
    if project_id is None or project_id == caller.team_id:
        return caller.team_id
    if not caller.is_operator or services.audit.head(project_id).sequence == 0:
        raise NotFound(f"No project with id '{project_id}' found.", param="project_id")
    return project_id


def _moment(seconds: int | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
