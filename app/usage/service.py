"""The verbs of whoever pays: prices, usage and costs in buckets, the ledger as CSV."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from app.audit.service import AuditService
from app.context import Context
from app.db.engine import UnitOfWork
from app.db.tables import Price, UsageRecord
from app.errors import Conflict, InvalidInput
from app.identity.caller import Caller
from app.identity.reach import within_reach
from app.ids import Prefix, new_id
from app.usage.buckets import BucketWidth, Group, GroupBy, Span, api_key_id, grouped, span_of, user_id
from app.usage.csv_export import to_csv
from app.usage.kinds import UNITS, Kind, PriceKind, line_item
from app.usage.ledger import UsageLedger
from app.usage.repository import UsageRepository
from app.usage.schemas import PriceCreate

MAX_EXPORT_ROWS = 100_000
_HEADER = (
    *("start_time", "end_time", "project_id", "api_key_id", "user_id", "object_id", "line_item"),
    *("quantity", "unit", "cost", "currency"),
)


@dataclass(frozen=True)
class Question:
    """What is asked for; empty lists ask for everything the caller may see."""

    start: datetime
    end: datetime
    width: BucketWidth
    limit: int
    group_by: tuple[GroupBy, ...] = ()
    project_ids: tuple[str, ...] = ()
    api_key_ids: tuple[str, ...] = ()
    user_ids: tuple[str, ...] = ()
    line_items: tuple[str, ...] = ()

    @property
    def is_about_members(self) -> bool:
        return bool(self.api_key_ids or self.user_ids or {"user_id", "api_key_id"} & set(self.group_by))


class UsageService:
    def __init__(self, work: UnitOfWork, context: Context, audit: AuditService) -> None:
        self._session = work.session
        self._repository = UsageRepository(work.session)
        self._settings = context.settings
        self._clock = context.clock
        self._ledger = UsageLedger(work.session, context.settings)
        self._audit = audit

    # Prices.

    def set_price(self, caller: Caller, body: PriceCreate) -> Price:
        """A price from now or a later moment on. What was used before keeps its price: a past moment is refused."""
        now = self._repository.now()
        effective_at = now if body.effective_at is None else datetime.fromtimestamp(body.effective_at, UTC)
        if effective_at < now and body.effective_at is not None:
            raise InvalidInput(
                "A price cannot begin in the past: what was used then keeps its price. Leave effective_at out for now.",
                param="effective_at",
            )
        device_kind = body.device_kind or ""
        if device_kind and body.kind not in {PriceKind.GPU_HOUR, PriceKind.ENERGY_KWH}:
            raise InvalidInput(f"A price for one {body.kind} is the same on every device.", param="device_kind")
        if self._repository.has_price(body.kind, device_kind, effective_at):
            raise Conflict("There is a price for this from this moment on. Choose another moment.", code="price_exists")
        price = Price(
            id=new_id(Prefix.PRICE),
            kind=body.kind,
            device_kind=device_kind,
            amount=body.amount,
            effective_at=effective_at,
            created_by=caller.actor,
        )
        self._repository.add_price(price)
        self._audit.record(
            caller.team_id,
            caller.actor,
            "price.set",
            price.id,
            kind=price.kind,
            device_kind=price.device_kind,
            amount=str(price.amount),
            effective_at=int(effective_at.timestamp()),
        )
        return price

    def prices(self) -> Sequence[Price]:
        """All, newest first."""
        return self._repository.prices()

    # Sums.

    def buckets(
        self, caller: Caller, question: Question, kinds: Sequence[Kind]
    ) -> tuple[Span, dict[datetime, list[Group]]]:
        """By bucket, what the caller may see: an operator all teams, everybody else the own one."""
        if question.end <= question.start:
            raise InvalidInput("end_time must be after start_time.", param="end_time")
        span = span_of(question.start, question.end, question.width, question.limit)
        team_ids = _visible_teams(caller, question.project_ids)
        with within_reach(self._session, caller):
            found = self._repository.buckets(
                start=span.start,
                end=span.end,
                step=span.step,
                team_ids=team_ids,
                kinds=kinds,
                by_member=question.is_about_members,
            )
        wanted = [
            one
            for one in found
            if (not question.api_key_ids or api_key_id(one.member) in question.api_key_ids)
            and (not question.user_ids or user_id(one.member) in question.user_ids)
            and (not question.line_items or line_item(Kind(one.kind), one.device_kind) in question.line_items)
        ]
        return span, grouped(wanted, question.group_by)

    def export(self, caller: Caller, *, start: datetime, end: datetime, project_ids: Sequence[str]) -> str:
        """Lines of the ledger that ended in this time, as CSV. `InvalidInput` if there are too many for one file."""
        team_ids = _visible_teams(caller, project_ids)
        with within_reach(self._session, caller):
            rows = self._repository.records(start=start, end=end, team_ids=team_ids, limit=MAX_EXPORT_ROWS + 1)
        if len(rows) > MAX_EXPORT_ROWS:
            raise InvalidInput(
                f"There are more than {MAX_EXPORT_ROWS} lines in this time. Ask for a shorter one.", param="end_time"
            )
        return to_csv(_HEADER, (self._cells(row) for row in rows))

    # For the control role.

    def sample_storage(self) -> int:
        return self._ledger.sample_storage()

    def _cells(self, row: UsageRecord) -> tuple[object, ...]:
        unit = UNITS[Kind(row.kind)]
        return (
            row.started_at.isoformat(),
            row.ended_at.isoformat(),
            row.team_id,
            api_key_id(row.member),
            user_id(row.member),
            row.object_id,
            line_item(Kind(row.kind), row.device_kind),
            f"{row.quantity / unit.of_one:.9g}",
            unit.wire_unit,
            f"{row.cost:f}",
            self._settings.currency,
        )


def _visible_teams(caller: Caller, project_ids: Sequence[str]) -> list[str] | None:
    """None: all. A team that is not the caller's is as one that has used nothing."""
    if caller.is_operator:
        return list(project_ids) or None
    return [caller.team_id] if not project_ids or caller.team_id in project_ids else []
