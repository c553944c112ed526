"""Time in buckets, and sums over them by whatever the asker groups by. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Literal

from app.usage.kinds import UNITS, Kind, line_item
from app.usage.repository import BucketSum

BucketWidth = Literal["1d", "1h"]
GroupBy = Literal["project_id", "user_id", "api_key_id", "line_item"]
WIDTHS: Mapping[BucketWidth, timedelta] = {"1d": timedelta(days=1), "1h": timedelta(hours=1)}
DEFAULT_LIMITS: Mapping[BucketWidth, int] = {"1d": 7, "1h": 24}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Span:
    """Whole buckets: from `start` up to `end`, and whether more follow."""

    start: datetime
    end: datetime
    step: timedelta
    has_more: bool

    def starts(self) -> list[datetime]:
        return [self.start + number * self.step for number in range(int((self.end - self.start) / self.step))]


@dataclass
class Group:
    """One line of a bucket. Names that are not grouped by are None."""

    names: dict[str, str | None]
    quantities: dict[Kind, float] = field(default_factory=dict)
    cost: Decimal = Decimal(0)


def span_of(start: datetime, end: datetime, width: BucketWidth, limit: int) -> Span:
    """The buckets of this width (UTC days or hours) that touch the time asked for, at most `limit`."""
    step = WIDTHS[width]
    first = _EPOCH + ((start - _EPOCH) // step) * step
    last = _EPOCH - (-(end - _EPOCH) // step) * step
    cut = min(last, first + limit * step)
    return Span(first, max(cut, first), step, has_more=cut < last)


def grouped(sums: Iterable[BucketSum], group_by: Sequence[GroupBy]) -> dict[datetime, list[Group]]:
    """Bucket starts to their groups, in the order of the groups' names."""
    found: dict[datetime, dict[tuple[str | None, ...], Group]] = {}
    for one in sums:
        names = names_of(one, group_by)
        groups = found.setdefault(one.start, {})
        group = groups.setdefault(tuple(names.values()), Group(names))
        kind = Kind(one.kind)
        group.quantities[kind] = group.quantities.get(kind, 0.0) + one.quantity
        group.cost += one.cost
    return {
        start: sorted(groups.values(), key=lambda group: [value or "" for value in group.names.values()])
        for start, groups in found.items()
    }


def names_of(one: BucketSum, group_by: Sequence[GroupBy]) -> dict[str, str | None]:
    """What a line is grouped by."""
    names: dict[GroupBy, str | None] = {
        "project_id": one.team_id,
        "user_id": user_id(one.member),
        "api_key_id": api_key_id(one.member),
        "line_item": line_item(Kind(one.kind), one.device_kind),
    }
    return {name: value if name in group_by else None for name, value in names.items()}


def api_key_id(member: str) -> str | None:
    return member.removeprefix("key:") if member.startswith("key:") else None


def user_id(member: str) -> str | None:
    return member.removeprefix("user:") if member.startswith("user:") else None


def priced_quantity(group: Group) -> tuple[float, str] | None:
    """Quantity and unit of a group that holds one kind only."""
    if len(group.quantities) != 1:
        return None
    kind, quantity = next(iter(group.quantities.items()))
    return quantity / UNITS[kind].of_one, UNITS[kind].wire_unit
