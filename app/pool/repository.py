"""SQL of the pool: the guarded claim and the workers' rows. What `pick` decides by is read in `snapshot_rows`."""

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.db.base import Json
from app.db.tables import Job, Worker
from app.pool.snapshot_rows import claimable

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

    def count_overtaken(self, job_ids: Sequence[str]) -> None:
        """A worker took a job of the base it held in these jobs' turn."""
        if job_ids:
            self._session.execute(
                update(Job)
                .where(Job.id.in_(job_ids))
                .values(overtaken=Job.overtaken + 1)
                .execution_options(synchronize_session=False)
            )

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
        return [(worker, float(seconds), job_id) for worker, seconds, job_id in self._session.execute(statement)]

    def count_open(self, team_id: str) -> dict[str, tuple[int, int]]:
        """By open status: jobs of the whole pool, and the team's own."""
        own = func.count().filter(Job.team_id == team_id)
        rows = self._session.execute(
            select(Job.status, func.count(), own)
            .where(Job.status.in_((_VALIDATING, "queued", "running")))
            .group_by(Job.status)
        )
        return {status: (total, mine) for status, total, mine in rows}
