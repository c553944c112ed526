"""All SQL of budgets and reservations."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from sqlalchemy import Double, delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.db.tables import GpuLease, GpuReservation, Job, Team, TeamBudget


class OpenLease(NamedTuple):
    """A GPU in use at this moment."""

    job_id: str
    device_kind: str
    started_at: datetime
    month_seconds: float
    """GPU-seconds since the month began."""
    seconds: float


class Reserved(NamedTuple):
    """What an open job reserved, and what its ended attempts have used."""

    job_id: str
    gpu_seconds: float
    cost: Decimal
    used_seconds: float


class BudgetRepository:
    def __init__(self, session: Session) -> None:
        self._session = session

    def has_team(self, team_id: str) -> bool:
        return self._session.scalar(select(Team.id).where(Team.id == team_id)) is not None

    def find(self, team_id: str) -> TeamBudget | None:
        query = select(TeamBudget).where(TeamBudget.team_id == team_id)
        return self._session.scalar(query.execution_options(populate_existing=True))

    def lock(self, team_id: str) -> TeamBudget | None:
        """Until the end of the transaction nobody else decides by this budget. None: the team has none."""
        query = select(TeamBudget).where(TeamBudget.team_id == team_id).with_for_update()
        return self._session.scalar(query.execution_options(populate_existing=True))

    def make(self, team_id: str) -> TeamBudget:
        """The team's row, made if there is none, locked."""
        self._session.execute(insert(TeamBudget).values(team_id=team_id).on_conflict_do_nothing())
        budget = self.lock(team_id)
        if budget is None:
            raise LookupError(team_id)
        return budget

    def limited_teams(self) -> Sequence[str]:
        """Teams with a limit on what they use."""
        query = select(TeamBudget.team_id).where(
            TeamBudget.gpu_seconds_per_month.is_not(None) | TeamBudget.cost_per_month.is_not(None)
        )
        return self._session.scalars(query.order_by(TeamBudget.team_id)).all()

    def put_reservation(self, *, job_id: str, team_id: str, gpu_seconds: float, cost: Decimal) -> None:
        values = {"gpu_seconds": gpu_seconds, "cost": cost}
        self._session.execute(
            insert(GpuReservation)
            .values(job_id=job_id, team_id=team_id, **values)
            .on_conflict_do_update(index_elements=["job_id"], set_=values)
        )

    def has_reservation(self, job_id: str) -> bool:
        return self._session.scalar(select(GpuReservation.job_id).where(GpuReservation.job_id == job_id)) is not None

    def remove_reservation(self, job_id: str) -> None:
        self._session.execute(delete(GpuReservation).where(GpuReservation.job_id == job_id))

    def reservations(self, team_id: str, *, but_not: str | None) -> list[Reserved]:
        used = func.coalesce(Job.usage["gpu_seconds"].as_string().cast(Double), 0.0)
        query = (
            select(GpuReservation.job_id, GpuReservation.gpu_seconds, GpuReservation.cost, used)
            .outerjoin(Job, Job.id == GpuReservation.job_id)
            .where(GpuReservation.team_id == team_id)
        )
        if but_not is not None:
            query = query.where(GpuReservation.job_id != but_not)
        return [Reserved(*row) for row in self._session.execute(query)]

    def open_leases(self, team_id: str, month: datetime) -> list[OpenLease]:
        """What is settled of each, and of the time since then an equal part for each that rides there."""
        settled_at = func.coalesce(GpuLease.settled_at, GpuLease.started_at)
        query = select(GpuLease, func.extract("epoch", func.clock_timestamp() - settled_at)).where(
            GpuLease.team_id == team_id, GpuLease.ended_at.is_(None)
        )
        return [_open_lease(lease, float(rest), month) for lease, rest in self._session.execute(query)]


def _open_lease(lease: GpuLease, rest_seconds: float, month: datetime) -> OpenLease:
    """`rest_seconds` have passed since it was settled; of time before the month it counts what falls into it."""
    settled_at = lease.settled_at or lease.started_at
    part = lease.gpus / lease.riders
    before = (settled_at - lease.started_at).total_seconds()
    before_in_month = max(0.0, (settled_at - max(lease.started_at, month)).total_seconds())
    rest_in_month = rest_seconds - max(0.0, (month - settled_at).total_seconds())
    settled_in_month = lease.gpu_seconds * (before_in_month / before if before > 0 else 1.0)
    return OpenLease(
        job_id=lease.job_id,
        device_kind=lease.device_kind,
        started_at=lease.started_at,
        month_seconds=settled_in_month + max(0.0, rest_in_month) * part,
        seconds=lease.gpu_seconds + rest_seconds * part,
    )
