"""SQL of those who ride: what a worker holds with all that sharing depends on, and whether anybody could join."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from app.db.tables import BaseModelRow, Job, TeamLimits
from app.pool.conditions import QUEUED, VALIDATING, claimable, has_status
from app.pool.riding import Ride, Rider


class RidersRepository:
    def __init__(self, session: Session) -> None:
        self._session = session

    def of_owner(self, owner: str) -> tuple[Rider, ...]:
        """Jobs that this holder runs on its GPU, the first to come first."""
        return self._riders(Job.owner == owner, Job.status != VALIDATING)

    def of_job(self, job_id: str) -> Rider:
        (found,) = self._riders(Job.id == job_id)
        return found

    def base_ids(self, weights_sha256: str) -> frozenset[str]:
        """Every name of these weights."""
        query = select(BaseModelRow.id).where(BaseModelRow.weights_sha256 == weights_sha256)
        return frozenset(self._session.scalars(query))

    def is_awaited(self, base_ids: Iterable[str]) -> bool:
        """Whether a job of one of these bases waits that may ride at all: asked often, so it costs an index probe."""
        query = select(Job.id).where(
            has_status(QUEUED), claimable(), Job.base_id.in_(sorted(base_ids)), Job.riding.is_not(None)
        )
        return self._session.scalar(query.limit(1)) is not None

    def beside(self, owner: str) -> int:
        """How many jobs this holder runs."""
        query = select(func.count()).where(Job.owner == owner, Job.status != VALIDATING)
        return self._session.scalars(query).one()

    def _riders(self, *where: ColumnElement[bool]) -> tuple[Rider, ...]:
        rows: Sequence[Any] = self._session.execute(
            select(
                Job.id,
                Job.team_id,
                BaseModelRow.weights_sha256,
                Job.riding,
                func.coalesce(TeamLimits.may_share, True),
                Job.preempt_reason.is_not(None),
            )
            .join(BaseModelRow, BaseModelRow.id == Job.base_id)
            .outerjoin(TeamLimits, TeamLimits.team_id == Job.team_id)
            .where(*where)
            .order_by(Job.claimed_at, Job.id)
        ).all()
        return tuple(
            Rider(job_id, team_id, weights, Ride.of(riding), may_share, is_asked)
            for job_id, team_id, weights, riding, may_share, is_asked in rows
        )
