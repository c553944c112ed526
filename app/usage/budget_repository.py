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
        now = func.clock_timestamp()
        since = func.extract("epoch", now - GpuLease.started_at) * GpuLease.gpus
        in_month = func.extract("epoch", now - func.greatest(GpuLease.started_at, month)) * GpuLease.gpus
        query = select(GpuLease.job_id, GpuLease.device_kind, GpuLease.started_at, in_month, since).where(
            GpuLease.team_id == team_id, GpuLease.ended_at.is_(None)
        )
        return [
            OpenLease(job_id, kind, started_at, float(month_seconds), float(seconds))
            for job_id, kind, started_at, month_seconds, seconds in self._session.execute(query)
        ]
