"""What was used and what it costs: leases of GPUs, the ledger, prices, budgets, and what open jobs have reserved."""

from datetime import date, datetime
from decimal import Decimal

from sqlalchemy import BigInteger, CheckConstraint, Double, ForeignKey, Identity, Index, Numeric, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, Created

_MONEY = Numeric(24, 10)


class GpuLease(Base):
    """One interval in which a worker held a job: opened by the claim, closed once, where its fence ends."""

    __tablename__ = "gpu_leases"
    __table_args__ = (
        Index("ix_gpu_leases_open", "team_id", postgresql_where=text("ended_at IS NULL")),
        Index("ix_gpu_leases_worker_open", "worker_id", postgresql_where=text("ended_at IS NULL")),
        CheckConstraint("ended_at >= started_at", name="order"),
    )

    job_id: Mapped[str] = mapped_column(primary_key=True)
    fence: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    team_id: Mapped[str] = mapped_column(ForeignKey("teams.id"))
    worker_id: Mapped[str]
    device_kind: Mapped[str]
    gpus: Mapped[int]
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    gpu_seconds: Mapped[float] = mapped_column(Double, server_default="0", doc="its part of the time until settled_at")
    settled_at: Mapped[datetime | None] = mapped_column(doc="when another lease of the worker last began or ended")
    riders: Mapped[int] = mapped_column(server_default="1", doc="open leases of the worker since then, with this one")


class UsageRecord(Base):
    """A line of the ledger. A trigger refuses every change; `source` makes each line unique."""

    __tablename__ = "usage_records"
    __table_args__ = (
        UniqueConstraint("kind", "source"),
        Index("ix_usage_records_team_ended", "team_id", "ended_at"),
        Index("ix_usage_records_object", "object_id", "kind"),
        CheckConstraint("quantity >= 0 AND ended_at >= started_at", name="sane"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    team_id: Mapped[str] = mapped_column(ForeignKey("teams.id"))
    member: Mapped[str] = mapped_column(doc="who asked for it, as the audit log names callers; or `system`")
    object_id: Mapped[str | None] = mapped_column(doc="job or run; NULL for storage")
    kind: Mapped[str] = mapped_column(doc="gpu_seconds, energy_wh, trained_tokens, evaluated_tokens, byte_seconds")
    source: Mapped[str] = mapped_column(doc="what it was taken from: job/fence, run/fence, team/hour")
    device_kind: Mapped[str | None]
    quantity: Mapped[float] = mapped_column(Double)
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime]
    cost: Mapped[Decimal] = mapped_column(_MONEY, doc="by the price that held at its start")
    created_at: Mapped[Created]


class UsageMonth(Base):
    """What a team used of one thing in a month (UTC). A trigger counts each line of the ledger at its commit."""

    __tablename__ = "usage_months"

    team_id: Mapped[str] = mapped_column(ForeignKey("teams.id"), primary_key=True)
    month: Mapped[date] = mapped_column(primary_key=True, doc="its first day")
    kind: Mapped[str] = mapped_column(primary_key=True)
    quantity: Mapped[float] = mapped_column(Double)
    cost: Mapped[Decimal] = mapped_column(_MONEY)


class Price(Base):
    """What a unit costs from a moment on; the operator's."""

    __tablename__ = "prices"
    __table_args__ = (
        UniqueConstraint("kind", "device_kind", "effective_at"),
        CheckConstraint("amount >= 0", name="amount"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    device_kind: Mapped[str] = mapped_column(doc="empty: every device that has no price of its own")
    amount: Mapped[Decimal] = mapped_column(_MONEY)
    effective_at: Mapped[datetime]
    created_by: Mapped[str]
    created_at: Mapped[Created]


class TeamBudget(Base):
    """What a team may use in a calendar month (UTC), and store at any time. NULL: no limit."""

    __tablename__ = "team_budgets"
    __table_args__ = (CheckConstraint("warn_at > 0 AND warn_at <= 1", name="warn_at"),)

    team_id: Mapped[str] = mapped_column(ForeignKey("teams.id"), primary_key=True)
    gpu_seconds_per_month: Mapped[float | None] = mapped_column(Double)
    cost_per_month: Mapped[Decimal | None] = mapped_column(_MONEY)
    storage_bytes: Mapped[int | None] = mapped_column(BigInteger)
    warn_at: Mapped[float] = mapped_column(Double, server_default="0.8", doc="share of a limit")
    warned_for: Mapped[date | None] = mapped_column(doc="first day of the month in which a warning went out")
    exceeded_for: Mapped[date | None] = mapped_column(doc="first day of the month in which jobs were stopped")
    updated_at: Mapped[Created]


class GpuReservation(Base):
    """What an open job may still use of its team's budget. Gone with the job's end or pause."""

    __tablename__ = "gpu_reservations"

    job_id: Mapped[str] = mapped_column(primary_key=True)
    team_id: Mapped[str] = mapped_column(ForeignKey("teams.id"), index=True)
    gpu_seconds: Mapped[float] = mapped_column(Double)
    cost: Mapped[Decimal] = mapped_column(_MONEY)
    created_at: Mapped[Created]
