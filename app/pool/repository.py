"""All SQL of the pool: the snapshot, the guarded claim, and the workers' rows."""

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import ColumnElement, and_, delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.db.base import Json
from app.db.scope import across_teams
from app.db.tables import Job, Worker
from app.pool.fairshare import Snapshot, TeamUse, WaitingJob

# Keys of transaction advisory locks, unique in the project.
_CLAIM_LOCK = 7_001
_CONTROL_LOCK = 7_002
_VALIDATING = "validating_files"


class PoolRepository:
    def __init__(self, session: Session) -> None:
        self._session = session

    def lock_claims(self) -> None:
        """One claim at a time in the whole pool, until the end of the transaction."""
        self._session.execute(select(func.pg_advisory_xact_lock(_CLAIM_LOCK)))

    def try_lock_control(self) -> bool:
        return bool(self._session.scalar(select(func.pg_try_advisory_xact_lock(_CONTROL_LOCK))))

    def snapshot(self, status: str) -> Snapshot:
        """Claimable jobs of this status, and what their teams have of the same kind of worker."""
        with across_teams(self._session):
            return self._snapshot(status)

    def _snapshot(self, status: str) -> Snapshot:
        now = func.clock_timestamp()
        rows = self._session.execute(
            select(Job.id, Job.team_id, Job.priority, func.extract("epoch", now - Job.created_at)).where(
                Job.status == status, claimable()
            )
        ).all()
        waiting = tuple(WaitingJob(job_id, team_id, priority, float(age)) for job_id, team_id, priority, age in rows)
        team_ids = {job.team_id for job in waiting}
        same_kind = Job.status == _VALIDATING if status == _VALIDATING else Job.status != _VALIDATING
        running = self._session.execute(
            select(Job.team_id, func.count().label("running"))
            .where(Job.owner.is_not(None), same_kind, Job.team_id.in_(team_ids))
            .group_by(Job.team_id)
        )
        counts = {row.team_id: row.running for row in running}
        served = self._session.execute(
            select(Job.team_id, func.extract("epoch", now - func.max(Job.claimed_at)))
            .where(Job.team_id.in_(team_ids), Job.claimed_at.is_not(None))
            .group_by(Job.team_id)
        )
        ages = {team_id: float(age) for team_id, age in served}
        return Snapshot(
            waiting=waiting,
            teams={
                team_id: TeamUse(running=counts.get(team_id, 0), served_seconds_ago=ages.get(team_id, float("inf")))
                for team_id in team_ids
            },
        )

    def take(self, job_id: str, owner: str, *, from_status: str, to_status: str, lease_seconds: float) -> int | None:
        """Take the lease; the new fence, or None if the job is no longer claimable."""
        now = func.clock_timestamp()
        trains = from_status != _VALIDATING
        statement = (
            update(Job)
            .where(Job.id == job_id, Job.status == from_status, claimable())
            .values(
                status=to_status,
                fence=Job.fence + 1,
                owner=owner,
                lease_until=now + timedelta(seconds=lease_seconds),
                not_before=None,
                # One moment for the whole statement: equal on the first claim.
                claimed_at=func.statement_timestamp() if trains else Job.claimed_at,
                started_at=func.coalesce(Job.started_at, func.statement_timestamp()) if trains else Job.started_at,
            )
            .returning(Job.fence)
            .execution_options(synchronize_session=False)
        )
        return self._session.scalar(statement)

    def longest_claimable_seconds(self, status: str) -> float | None:
        """Age of the oldest claimable job of this status; None if there is none."""
        oldest = self._session.scalar(
            select(func.extract("epoch", func.clock_timestamp() - func.min(Job.created_at))).where(
                Job.status == status, claimable()
            )
        )
        return None if oldest is None else float(oldest)

    def has_idle_worker(self, *, heard_within_seconds: float) -> bool:
        """Whether a worker heard of lately holds no lease."""
        limit = func.clock_timestamp() - timedelta(seconds=heard_within_seconds)
        holds = select(Job.id).where(Job.owner == Worker.id + "/" + Worker.incarnation)
        idle = select(Worker.id).where(Worker.heartbeat_at > limit, ~holds.exists()).limit(1)
        return self._session.scalar(idle) is not None

    def upsert_worker(self, *, worker_id: str, incarnation: str, host: str, device: Json) -> None:
        values = {
            "incarnation": incarnation,
            "host": host,
            "device": device,
            "resident_base": None,
            "started_at": func.clock_timestamp(),
            "heartbeat_at": func.clock_timestamp(),
        }
        self._session.execute(
            insert(Worker).values(id=worker_id, **values).on_conflict_do_update(index_elements=["id"], set_=values)
        )

    def beat_worker(self, worker_id: str, incarnation: str, resident_base: str | None) -> None:
        self._session.execute(
            update(Worker)
            .where(Worker.id == worker_id, Worker.incarnation == incarnation)
            .values(heartbeat_at=func.clock_timestamp(), resident_base=resident_base)
            .execution_options(synchronize_session=False)
        )

    def delete_worker(self, worker_id: str, incarnation: str) -> None:
        self._session.execute(delete(Worker).where(Worker.id == worker_id, Worker.incarnation == incarnation))

    def workers(self) -> Sequence[tuple[Worker, float, str | None]]:
        """Every worker, the seconds since its last sign of life, and the job it holds."""
        silence = func.extract("epoch", func.clock_timestamp() - Worker.heartbeat_at)
        statement = (
            select(Worker, silence, Job.id)
            .outerjoin(Job, Job.owner == Worker.id + "/" + Worker.incarnation)
            .order_by(Worker.id)
        )
        with across_teams(self._session):
            return [(worker, float(seconds), job_id) for worker, seconds, job_id in self._session.execute(statement)]

    def count_open(self, team_id: str) -> dict[str, tuple[int, int]]:
        """By open status: jobs of the whole pool, and the team's own."""
        own = func.count().filter(Job.team_id == team_id)
        statement = (
            select(Job.status, func.count(), own)
            .where(Job.status.in_((_VALIDATING, "queued", "running")))
            .group_by(Job.status)
        )
        with across_teams(self._session):
            rows = self._session.execute(statement).all()
        return {status: (total, mine) for status, total, mine in rows}


def claimable() -> ColumnElement[bool]:
    """Nobody holds the lease, and any back-off is over; by the database's clock."""
    now = func.clock_timestamp()
    return and_(
        or_(Job.owner.is_(None), Job.lease_until < now),
        or_(Job.not_before.is_(None), Job.not_before <= now),
    )
