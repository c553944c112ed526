"""Wire shapes of usage, costs and prices: OpenAI's buckets, then prices and budgets of ours."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.clock import unix_seconds
from app.db.tables import Price
from app.usage.buckets import Group, Span, priced_quantity
from app.usage.kinds import Kind, PriceKind

_MAX_AMOUNT = Decimal(1_000_000_000)


class PriceCreate(BaseModel):
    model_config = ConfigDict(extra="ignore")

    kind: PriceKind
    amount: Annotated[Decimal, Field(ge=0, le=_MAX_AMOUNT, max_digits=20, decimal_places=10)]
    device_kind: Annotated[str, Field(max_length=128)] | None = Field(
        default=None, description="of gpu_hour and energy_kwh: for this kind alone; without it for all others"
    )
    effective_at: Annotated[int, Field(strict=True, ge=0, le=32_503_680_000)] | None = Field(
        default=None, description="Unix seconds, not in the past; without it now"
    )


class BudgetSet(BaseModel):
    """Fields left out stay as they are; null takes a limit away."""

    model_config = ConfigDict(extra="ignore")

    gpu_seconds_per_month: Annotated[float, Field(strict=True, ge=0, le=1e12, allow_inf_nan=False)] | None = None
    cost_per_month: Annotated[Decimal, Field(ge=0, le=_MAX_AMOUNT, max_digits=20, decimal_places=10)] | None = None
    storage_bytes: Annotated[int, Field(strict=True, ge=0, le=2**62)] | None = None
    warn_at: Annotated[float, Field(strict=True, gt=0, le=1)] = Field(
        default=0.8, description="share of a limit at which a warning goes out"
    )


class BudgetUseObject(BaseModel):
    gpu_seconds: float
    cost: float


class BudgetObject(BaseModel):
    object: Literal["organization.project.budget"] = "organization.project.budget"
    project_id: str
    gpu_seconds_per_month: float | None
    cost_per_month: float | None
    storage_bytes: int | None
    warn_at: float
    currency: str
    month: str = Field(description="the current one, UTC")
    used: BudgetUseObject
    reserved: BudgetUseObject = Field(description="what open jobs may still use of what they reserved")
    stored_bytes: int


class PriceObject(BaseModel):
    id: str
    object: Literal["organization.price"] = "organization.price"
    kind: PriceKind
    device_kind: str | None
    amount: float
    currency: str
    effective_at: int
    created_at: int


class PriceList(BaseModel):
    object: Literal["list"] = "list"
    data: list[PriceObject]


class Amount(BaseModel):
    value: float
    currency: str


class CostsResult(BaseModel):
    object: Literal["organization.costs.result"] = "organization.costs.result"
    amount: Amount
    line_item: str | None
    project_id: str | None
    user_id: str | None
    api_key_id: str | None
    quantity: float | None
    quantity_unit: str | None


class FineTuningUsageResult(BaseModel):
    object: Literal["organization.usage.fine_tuning.result"] = "organization.usage.fine_tuning.result"
    gpu_seconds: float
    trained_tokens: int
    energy_wh: float = Field(description="an estimate: seconds of a device times its usual watts")
    project_id: str | None
    user_id: str | None
    api_key_id: str | None
    line_item: str | None


class EvalsUsageResult(BaseModel):
    object: Literal["organization.usage.evals.result"] = "organization.usage.evals.result"
    evaluated_tokens: int
    project_id: str | None
    user_id: str | None
    api_key_id: str | None
    line_item: str | None


class StorageUsageResult(BaseModel):
    object: Literal["organization.usage.storage.result"] = "organization.usage.storage.result"
    usage_bytes: int = Field(description="mean over the bucket")
    byte_seconds: float
    project_id: str | None
    user_id: str | None
    api_key_id: str | None
    line_item: str | None


Result = CostsResult | FineTuningUsageResult | EvalsUsageResult | StorageUsageResult


class Bucket(BaseModel):
    object: Literal["bucket"] = "bucket"
    start_time: int
    end_time: int
    results: list[Result]


class UsagePage(BaseModel):
    object: Literal["page"] = "page"
    data: list[Bucket]
    has_more: bool
    next_page: str | None


class JobUsageObject(BaseModel):
    """What a job's ended attempts have used."""

    gpu_seconds: float
    energy_wh: float = Field(description="an estimate")
    tokens: int = Field(description="trained")
    cost: Amount


UsageKind = Literal["fine_tuning", "evals", "storage"]
KINDS_OF_USAGE: dict[UsageKind, tuple[Kind, ...]] = {
    "fine_tuning": (Kind.GPU_SECONDS, Kind.TRAINED_TOKENS, Kind.ENERGY_WH),
    "evals": (Kind.EVALUATED_TOKENS,),
    "storage": (Kind.BYTE_SECONDS,),
}


def price_object(row: Price, currency: str) -> PriceObject:
    return PriceObject(
        id=row.id,
        kind=PriceKind(row.kind),
        device_kind=row.device_kind or None,
        amount=float(row.amount),
        currency=currency,
        effective_at=unix_seconds(row.effective_at),
        created_at=unix_seconds(row.created_at),
    )


def usage_page(span: Span, groups: dict[datetime, list[Group]], make: Any) -> UsagePage:
    """Every bucket of the span, empty ones too. `make(group, bucket_seconds)` is one result."""
    seconds = span.step.total_seconds()
    return UsagePage(
        data=[
            Bucket(
                start_time=unix_seconds(start),
                end_time=unix_seconds(start + span.step),
                results=[make(group, seconds) for group in groups.get(start, [])],
            )
            for start in span.starts()
        ],
        has_more=span.has_more,
        next_page=str(unix_seconds(span.end)) if span.has_more else None,
    )


def costs_result(group: Group, currency: str) -> CostsResult:
    priced = priced_quantity(group) if group.names["line_item"] is not None else None
    return CostsResult(
        amount=Amount(value=float(group.cost), currency=currency),
        quantity=None if priced is None else priced[0],
        quantity_unit=None if priced is None else priced[1],
        **_names(group),
    )


def usage_result(kind: UsageKind, group: Group, bucket_seconds: float) -> Result:
    found = group.quantities
    if kind == "fine_tuning":
        return FineTuningUsageResult(
            gpu_seconds=found.get(Kind.GPU_SECONDS, 0.0),
            trained_tokens=round(found.get(Kind.TRAINED_TOKENS, 0.0)),
            energy_wh=found.get(Kind.ENERGY_WH, 0.0),
            **_names(group),
        )
    if kind == "evals":
        return EvalsUsageResult(evaluated_tokens=round(found.get(Kind.EVALUATED_TOKENS, 0.0)), **_names(group))
    byte_seconds = found.get(Kind.BYTE_SECONDS, 0.0)
    return StorageUsageResult(
        usage_bytes=round(byte_seconds / bucket_seconds), byte_seconds=byte_seconds, **_names(group)
    )


def _names(group: Group) -> dict[str, Any]:
    return dict(group.names)


def job_usage_object(stored: dict[str, Any] | None) -> JobUsageObject | None:
    """From the job's column; None before its first attempt has ended."""
    if stored is None:
        return None
    cost = Amount(value=stored["cost"], currency=stored["currency"])
    return JobUsageObject(**{name: stored[name] for name in ("gpu_seconds", "energy_wh", "tokens")}, cost=cost)
