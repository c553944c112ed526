"""/v1/organization: usage and costs in OpenAI's buckets; prices and the ledger as CSV are ours."""

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from app.api.dependencies import ContextDep, ServicesDep, allow
from app.api.edge import WorkRoute
from app.db.tables import TeamBudget
from app.errors import InvalidInput
from app.factory import Services
from app.identity.caller import Caller
from app.identity.policy import Permission
from app.usage.buckets import DEFAULT_LIMITS, BucketWidth, GroupBy
from app.usage.kinds import Kind
from app.usage.schemas import (
    KINDS_OF_USAGE,
    BudgetObject,
    BudgetSet,
    BudgetUseObject,
    PriceCreate,
    PriceList,
    PriceObject,
    UsageKind,
    UsagePage,
    costs_result,
    price_object,
    usage_page,
    usage_result,
)
from app.usage.service import Question

router = APIRouter(prefix="/v1/organization", route_class=WorkRoute, tags=["Usage and costs"])
Reader = Annotated[Caller, Depends(allow(Permission.JOBS_READ))]
Admin = Annotated[Caller, Depends(allow(Permission.TEAM_WRITE))]
Operator = Annotated[Caller, Depends(allow(Permission.ORGANIZATION_WRITE))]
Seconds = Annotated[int, Query(ge=0, le=32_503_680_000, description="Unix seconds")]
_GROUPS: tuple[GroupBy, ...] = ("project_id", "user_id", "api_key_id", "line_item")


def _question(
    *,
    request: Request,
    start_time: Seconds,
    end_time: Seconds | None = None,
    bucket_width: BucketWidth = "1d",
    limit: Annotated[int | None, Query(ge=1, le=180, description="buckets; default 7 days or 24 hours")] = None,
    page: Annotated[str | None, Query(max_length=20, description="`next_page` of the page before")] = None,
) -> Question:
    """Lists come as `group_by=a&group_by=b` or, as OpenAI's client sends them, `group_by[]=a`."""
    if page is not None and not (page.isascii() and page.isdecimal() and int(page) <= 32_503_680_000):
        raise InvalidInput("`page` is the `next_page` of the page before.", param="page")
    names = _listed(request, "group_by")
    group_by = tuple(group for group in _GROUPS if group in names)
    unknown = sorted(set(names) - set(_GROUPS))
    if unknown:
        raise InvalidInput(f"Cannot group by '{unknown[0]}'. Group by: {', '.join(_GROUPS)}.", param="group_by")
    return Question(
        start=datetime.fromtimestamp(start_time if page is None else int(page), UTC),
        end=datetime.now(UTC) if end_time is None else datetime.fromtimestamp(end_time, UTC),
        width=bucket_width,
        limit=limit or DEFAULT_LIMITS[bucket_width],
        group_by=group_by,
        **{name: _listed(request, name) for name in ("project_ids", "api_key_ids", "user_ids", "line_items")},
    )


Asked = Annotated[Question, Depends(_question)]


@router.get("/usage/export.csv", response_class=Response)
def export_usage(
    request: Request, caller: Admin, services: ServicesDep, start_time: Seconds, end_time: Seconds | None = None
) -> Response:
    """The lines of the ledger that ended in this time, as CSV: an operator's of all teams, an admin's of the own."""
    start = datetime.fromtimestamp(start_time, UTC)
    end = datetime.now(UTC) + timedelta(seconds=1) if end_time is None else datetime.fromtimestamp(end_time, UTC)
    text = services.usage.export(caller, start=start, end=end, project_ids=_listed(request, "project_ids"))
    headers = {"content-disposition": 'attachment; filename="usage.csv"', "x-content-type-options": "nosniff"}
    return Response(text, media_type="text/csv; charset=utf-8", headers=headers)


@router.get("/usage/{kind}")
def get_usage(kind: UsageKind, caller: Admin, services: ServicesDep, question: Asked) -> UsagePage:
    """What was used, in buckets of days or hours (UTC)."""
    span, groups = services.usage.buckets(caller, question, KINDS_OF_USAGE[kind])
    return usage_page(span, groups, partial(usage_result, kind))


@router.get("/costs")
def get_costs(caller: Admin, services: ServicesDep, context: ContextDep, question: Asked) -> UsagePage:
    """What it costs by the operator's prices, in the same buckets."""
    span, groups = services.usage.buckets(caller, question, tuple(Kind))
    currency = context.settings.currency
    return usage_page(span, groups, lambda group, _: costs_result(group, currency))


@router.get("/prices")
def list_prices(caller: Reader, services: ServicesDep, context: ContextDep) -> PriceList:
    """All prices, past and coming, newest first."""
    del caller
    return PriceList(data=[price_object(row, context.settings.currency) for row in services.usage.prices()])


@router.post("/prices")
def set_price(caller: Operator, services: ServicesDep, context: ContextDep, body: PriceCreate) -> PriceObject:
    """Set what one unit costs from a moment on. What was used before keeps its price."""
    return price_object(services.usage.set_price(caller, body), context.settings.currency)


@router.get("/projects/{project_id}/budget")
def get_budget(project_id: str, caller: Admin, services: ServicesDep) -> BudgetObject:
    """A team's limits, and what it has used and reserved of them."""
    return _budget_object(services, services.budgets.get(caller, project_id))


@router.post("/projects/{project_id}/budget")
def set_budget(project_id: str, caller: Operator, services: ServicesDep, body: BudgetSet) -> BudgetObject:
    """Limit what a team may use in a month, and store. Fields left out stay as they are; null takes a limit away."""
    return _budget_object(services, services.budgets.set(caller, project_id, body))


def _budget_object(services: Services, budget: TeamBudget) -> BudgetObject:
    standing = services.budgets.standing(budget.team_id)
    return BudgetObject(
        project_id=budget.team_id,
        gpu_seconds_per_month=budget.gpu_seconds_per_month,
        cost_per_month=None if budget.cost_per_month is None else float(budget.cost_per_month),
        storage_bytes=budget.storage_bytes,
        warn_at=budget.warn_at,
        currency=services.context.settings.currency,
        month=f"{standing.month:%Y-%m}",
        used=BudgetUseObject(gpu_seconds=standing.used_seconds, cost=float(standing.used_cost)),
        reserved=BudgetUseObject(gpu_seconds=standing.reserved_seconds, cost=float(standing.reserved_cost)),
        stored_bytes=services.budgets.stored_bytes(budget.team_id),
    )


def _listed(request: Request, name: str) -> tuple[str, ...]:
    values = [*request.query_params.getlist(name), *request.query_params.getlist(f"{name}[]")]
    if len(values) > 200:
        raise InvalidInput(f"At most 200 values of {name}.", param=name)
    return tuple(values)
