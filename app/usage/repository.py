"""All SQL of the ledger: leases, lines, prices, and sums over them."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from sqlalchemy import (
    ARRAY,
    BigInteger,
    DateTime,
    Double,
    String,
    bindparam,
    case,
    cast,
    column,
    func,
    literal,
    or_,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import distinct_on, insert
from sqlalchemy.orm import Session

from app.db.tables import (
    File,
    GpuLease,
    JobMetric,
    Price,
    Team,
    TunedModel,
    Upload,
    UploadPart,
    UsageMonth,
    UsageRecord,
    Worker,
)
from app.usage.kinds import Kind

_BATCH = 1000
# Built once: part of each submit.
_PRICES = (
    select(Price.kind, Price.amount)
    .ext(distinct_on(Price.kind))
    .where(
        Price.kind == func.any(bindparam("kinds", type_=ARRAY(String))),
        or_(Price.device_kind == "", Price.device_kind == bindparam("device_kind")),
        Price.effective_at <= func.coalesce(bindparam("moment", type_=DateTime(timezone=True)), func.clock_timestamp()),
    )
    .order_by(Price.kind, (Price.device_kind != "").desc(), Price.effective_at.desc())
)


class BucketSum(NamedTuple):
    """What one member of a team used of one thing in one bucket of time."""

    start: datetime
    team_id: str
    member: str
    kind: str
    device_kind: str | None
    quantity: float
    cost: Decimal


class UsageRepository:
    def __init__(self, session: Session) -> None:
        self._session = session

    def now(self) -> datetime:
        """The database's clock."""
        now: datetime = self._session.execute(select(func.clock_timestamp())).scalar_one()
        return now

    def flush(self) -> None:
        self._session.flush()

    # Leases.

    def device_of(self, worker_id: str) -> dict[str, Any]:
        """As the worker registered it; empty for one that has not."""
        return self._session.scalar(select(Worker.device).where(Worker.id == worker_id)) or {}

    def add_lease(self, lease: GpuLease) -> None:
        self._session.add(lease)
        self._session.flush()

    def open_leases(self, job_id: str) -> Sequence[GpuLease]:
        """Guarded by the job's lock alone: two riders that end at once must not each hold what the other waits for."""
        query = select(GpuLease).where(GpuLease.job_id == job_id, GpuLease.ended_at.is_(None)).order_by(GpuLease.fence)
        return self._session.scalars(query).all()

    def lock_open_leases_of_worker(self, worker_id: str) -> Sequence[GpuLease]:
        """All of them, of any team, until the end of the transaction nobody else's to settle; none can join meanwhile.

        Always asked for after the locks of jobs, so that nobody waits in a circle.
        """
        lock = func.pg_advisory_xact_lock(_SETTLING_LOCK, func.hashtext(worker_id))
        self._session.execute(select(lock))
        query = (
            select(GpuLease)
            .where(GpuLease.worker_id == worker_id, GpuLease.ended_at.is_(None))
            .order_by(GpuLease.started_at, GpuLease.job_id)
        )
        return self._session.scalars(query.with_for_update().execution_options(populate_existing=True)).all()

    def tokens_since(self, job_id: str, moment: datetime) -> float:
        """Trained in the steps that were recorded after this moment."""
        tokens = func.sum(JobMetric.figures["tokens"].as_float())
        query = select(tokens).where(JobMetric.job_id == job_id, JobMetric.recorded_at > moment)
        return float(self._session.scalar(query) or 0)

    def newest_trained_tokens(self, job_id: str) -> int:
        """Tokens since the start of the job at its last reported step."""
        figure = (
            select(JobMetric.figures["trained_tokens"].as_float())
            .where(JobMetric.job_id == job_id, JobMetric.figures.has_key("trained_tokens"))
            .order_by(JobMetric.step.desc())
            .limit(1)
        )
        return int(self._session.scalar(figure) or 0)

    # The ledger.

    def add_record(self, **values: Any) -> bool:
        """False if there is a line of this kind and source already: then nothing changes."""
        statement = insert(UsageRecord).values(**values).on_conflict_do_nothing(index_elements=["kind", "source"])
        return self._session.scalar(statement.returning(UsageRecord.id)) is not None

    def total(self, object_id: str, kind: Kind) -> float:
        query = select(func.coalesce(func.sum(UsageRecord.quantity), 0)).where(
            UsageRecord.object_id == object_id, UsageRecord.kind == kind
        )
        return float(self._session.scalar(query) or 0)

    def totals(self, object_id: str) -> dict[str, tuple[float, Decimal]]:
        """By kind: quantity and cost."""
        rows = self._session.execute(
            select(UsageRecord.kind, func.sum(UsageRecord.quantity), func.sum(UsageRecord.cost))
            .where(UsageRecord.object_id == object_id)
            .group_by(UsageRecord.kind)
        )
        return {kind: (float(quantity), cost) for kind, quantity, cost in rows}

    def month(self, team_id: str, first_day: date) -> dict[str, tuple[float, Decimal]]:
        """What a team used in a month, by kind: quantity and cost, without the lines of this transaction."""
        rows = self._session.execute(
            select(UsageMonth.kind, UsageMonth.quantity, UsageMonth.cost).where(
                UsageMonth.team_id == team_id, UsageMonth.month == first_day
            )
        )
        return {kind: (quantity, cost) for kind, quantity, cost in rows}

    def buckets(
        self,
        *,
        start: datetime,
        end: datetime,
        step: timedelta,
        team_ids: Sequence[str] | None,
        kinds: Sequence[Kind] = tuple(Kind),
        by_member: bool = False,
    ) -> list[BucketSum]:
        """Each line is shared out over the buckets that its interval touches, by time.

        `team_ids` None: all teams. Without `by_member` the members of a team are one, without a name.
        """
        # In seconds of Unix time: adding "1 day" would follow the summer time of the session's zone.
        width = literal(int(step.total_seconds()), BigInteger)
        first_asked = literal(int(start.timestamp()), BigInteger)
        last_asked = literal(int((end - step).timestamp()), BigInteger)
        where = [UsageRecord.ended_at >= start, UsageRecord.started_at < end, UsageRecord.kind.in_(kinds)]
        if team_ids is not None:
            where.append(UsageRecord.team_id.in_(team_ids))
        names = [UsageRecord.team_id, UsageRecord.kind, UsageRecord.device_kind]
        # First the lines, by their index: the planner expects a thousand buckets of each and would read the table.
        # `date_part` counts in doubles, `extract` in decimals, which take several times as long.
        line = (
            select(
                *names,
                *((UsageRecord.member,) if by_member else ()),
                UsageRecord.quantity,
                cast(UsageRecord.cost, Double).label("cost"),
                func.date_part("epoch", UsageRecord.started_at, type_=Double).label("begins"),
                func.date_part("epoch", UsageRecord.ended_at, type_=Double).label("ends"),
            )
            .where(*where)
            .cte("line")
            .prefix_with("MATERIALIZED")
        )
        begins, ends = line.c.begins, line.c.ends
        first = func.floor((begins - first_asked) / width) * width + first_asked
        last = func.ceil((ends - first_asked) / width) * width + first_asked - width
        # A line has few buckets of its own: far fewer than all buckets times all lines.
        series = (
            func.generate_series(
                cast(func.greatest(first, first_asked), BigInteger),
                cast(func.least(func.greatest(first, last), last_asked), BigInteger),
                width,
            )
            .table_valued(column("start", BigInteger), name="bucket")
            .render_derived()
        )
        bucket = series.c.start
        inside = func.least(ends, bucket + width) - func.greatest(begins, bucket)
        share = case((ends == begins, 1.0), else_=inside / func.nullif(ends - begins, 0))
        keys = (
            bucket,
            *(line.c[name.key] for name in names),
            *((line.c.member,) if by_member else ()),
        )
        query = (
            select(*keys, func.sum(line.c.quantity * share), func.sum(line.c.cost * share))
            .select_from(line)
            .join(series, true())
            .group_by(*keys)
            .order_by(*keys)
        )
        return [_bucket_sum(tuple(row)) for row in self._session.execute(query)]

    def records(
        self, *, start: datetime, end: datetime, team_ids: Sequence[str] | None, limit: int
    ) -> Sequence[UsageRecord]:
        """Lines that end in this time, oldest first."""
        where = [UsageRecord.ended_at >= start, UsageRecord.ended_at < end]
        if team_ids is not None:
            where.append(UsageRecord.team_id.in_(team_ids))
        query = select(UsageRecord).where(*where).order_by(UsageRecord.ended_at, UsageRecord.id).limit(limit)
        return self._session.scalars(query).all()

    # Prices.

    def add_price(self, price: Price) -> None:
        self._session.add(price)
        self._session.flush()

    def prices(self) -> Sequence[Price]:
        """All, newest first."""
        return self._session.scalars(select(Price).order_by(Price.effective_at.desc(), Price.id)).all()

    def has_price(self, kind: str, device_kind: str, effective_at: datetime) -> bool:
        query = select(Price.id).where(
            Price.kind == kind, Price.device_kind == device_kind, Price.effective_at == effective_at
        )
        return self._session.scalar(query) is not None

    def price_at(self, kind: str, device_kind: str | None, moment: datetime) -> Decimal | None:
        """As `prices_at`, of one kind."""
        return self.prices_at([kind], device_kind, moment).get(kind)

    def prices_at(
        self, kinds: Sequence[str], device_kind: str | None, moment: datetime | None = None
    ) -> dict[str, Decimal]:
        """By kind; the device's own before that of all devices; of these the last one that held at the moment.

        None: the database's present moment.
        """
        values = {"kinds": list(kinds), "device_kind": device_kind or "", "moment": moment}
        return {row.kind: row.amount for row in self._session.execute(_PRICES, values)}

    # Storage.

    def stored_bytes(self, team_id: str) -> int:
        """Files, parts of open uploads, and archives of models whose bytes are there."""
        files = select(func.coalesce(func.sum(File.bytes), 0)).where(File.team_id == team_id, File.deleted_at.is_(None))
        parts = (
            select(func.coalesce(func.sum(UploadPart.bytes), 0))
            .join(Upload, Upload.id == UploadPart.upload_id)
            .where(Upload.team_id == team_id, Upload.status == "pending")
        )
        # Several names may stand for one archive.
        archives = (
            select(TunedModel.archive_key, TunedModel.archive_bytes)
            .where(TunedModel.team_id == team_id, TunedModel.deleted_at.is_(None))
            .distinct()
            .subquery()
        )
        models = select(func.coalesce(func.sum(archives.c.archive_bytes), 0))
        total = files.scalar_subquery() + parts.scalar_subquery() + models.scalar_subquery()
        return int(self._session.scalar(select(total)) or 0)

    def storage_samples_due(self, hour: datetime) -> Sequence[tuple[str, datetime | None]]:
        """Teams whose storage is not yet sampled up to this hour, and up to when it is."""
        sampled = (
            select(UsageRecord.team_id, func.max(UsageRecord.ended_at).label("until"))
            .where(UsageRecord.kind == Kind.BYTE_SECONDS)
            .group_by(UsageRecord.team_id)
            .subquery()
        )
        query = (
            select(Team.id, sampled.c.until)
            .outerjoin(sampled, sampled.c.team_id == Team.id)
            .where(Team.created_at < hour, or_(sampled.c.until.is_(None), sampled.c.until < hour))
            .order_by(Team.id)
            .limit(_BATCH)
        )
        return [(team_id, until) for team_id, until in self._session.execute(query)]

    def lock_sampling(self) -> bool:
        """One sampler at a time; False if another one is at work."""
        return bool(self._session.scalar(select(func.pg_try_advisory_xact_lock(_SAMPLING_LOCK))))


# Of transaction advisory locks, unique in the project.
_SAMPLING_LOCK = 7_010
_SETTLING_LOCK = 7_011


def _bucket_sum(row: Sequence[Any]) -> BucketSum:
    """Of a row of keys (a member only if asked for) and two sums."""
    seconds, team_id, kind, device, *member, quantity, cost = row
    return BucketSum(
        start=datetime.fromtimestamp(seconds, UTC),
        team_id=team_id,
        kind=kind,
        device_kind=device,
        member=member[0] if member else "",
        quantity=float(quantity),
        cost=round(Decimal(cost), 10),
    )
