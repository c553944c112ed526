"""SQL of the pool: the guarded claim and the workers' rows. What `pick` decides by is read in `snapshot_repository`."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import BindParameter, Interval, Update, bindparam, delete, func, literal_column, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.db.base import Json
from app.db.scope import across_teams
from app.db.tables import BaseModelRow, Job, Team, TeamLimits, Worker
from app.pool.conditions import QUEUED, VALIDATING, claimable, has_status

# Keys of transaction advisory locks, unique in the project.
_CLAIM_LOCK = 7_001
_CONTROL_LOCK = 7_002
_NOT_RUNNING = (VALIDATING, "queued", "paused")
# What each claim runs is built once: building it takes longer than running it.
_LOCK_CLAIMS = select(func.pg_advisory_xact_lock(_CLAIM_LOCK))


def _take(*, trains: bool) -> Update:
    # One moment for the whole statement: `started_at` and `claimed_at` are equal on the first claim.
    moment = func.statement_timestamp()
    times = {"claimed_at": moment, "started_at": func.coalesce(Job.started_at, moment)} if trains else {}
    return (
        # The table, not its class: there are no objects of the session to be looked through.
        update(Job.metadata.tables[Job.__tablename__])
        .where(Job.id == bindparam("job_id"), Job.status == bindparam("from_status"), claimable())
        .values(
            status=bindparam("to_status"),
            fence=Job.fence + 1,
            owner=bindparam("by"),
            lease_until=func.clock_timestamp() + bindparam("seconds", type_=Interval),
            not_before=None,
            **times,
        )
        .returning(Job.fence)
    )


_TAKE, _TAKE_TO_INSPECT = _take(trains=True), _take(trains=False)


class PoolRepository:
    def __init__(self, session: Session) -> None:
        self._session = session

    def lock_claims(self) -> None:
        """One claim at a time in the whole pool, until the end of the transaction."""
        self._session.execute(_LOCK_CLAIMS)

    def try_lock_control(self) -> bool:
        return bool(self._session.scalar(select(func.pg_try_advisory_xact_lock(_CONTROL_LOCK))))

    def take(self, job_id: str, owner: str, *, from_status: str, to_status: str, lease_seconds: float) -> int | None:
        """Take the lease; the new fence, or None if the job is no longer claimable."""
        statement = _TAKE if from_status != VALIDATING else _TAKE_TO_INSPECT
        values = {
            "job_id": job_id,
            "from_status": from_status,
            "to_status": to_status,
            "by": owner,
            "seconds": timedelta(seconds=lease_seconds),
        }
        fence: int | None = self._session.scalar(statement, values)
        return fence

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
                has_status(status), claimable()
            )
        )
        return None if oldest is None else float(oldest)

    def has_idle_worker(self, *, heard_within_seconds: float) -> bool:
        """Whether a worker heard of lately holds no lease."""
        limit = func.clock_timestamp() - timedelta(seconds=heard_within_seconds)
        holds = select(Job.id).where(Job.owner == Worker.id + "/" + Worker.incarnation)
        idle = select(Worker.id).where(Worker.heartbeat_at > limit, ~holds.exists()).limit(1)
        return self._session.scalar(idle) is not None

    def devices(self, *, heard_within_seconds: float) -> list[Json]:
        """Of the workers heard of lately."""
        limit = func.clock_timestamp() - timedelta(seconds=heard_within_seconds)
        return list(self._session.scalars(select(Worker.device).where(Worker.heartbeat_at > limit)))

    def upsert_worker(self, *, worker_id: str, **card: Any) -> None:
        """A worker's row as it introduces itself; a drain outlives its restarts, not its leaving."""
        values = {
            **card,
            "resident_base": None,
            "started_at": func.clock_timestamp(),
            "heartbeat_at": func.clock_timestamp(),
        }
        self._session.execute(
            insert(Worker).values(id=worker_id, **values).on_conflict_do_update(index_elements=["id"], set_=values)
        )

    def beat_worker(
        self,
        worker_id: str,
        incarnation: str,
        resident_base: str | None,
        bases: Sequence[str] | None,
        unready: str | None,
    ) -> None:
        said: dict[str, Any] = {} if bases is None else {"bases": bases}
        self._session.execute(
            update(Worker)
            .where(Worker.id == worker_id, Worker.incarnation == incarnation)
            .values(heartbeat_at=func.clock_timestamp(), resident_base=resident_base, unready=unready, **said)
            .execution_options(synchronize_session=False)
        )

    def delete_worker(self, worker_id: str, incarnation: str) -> None:
        self._session.execute(delete(Worker).where(Worker.id == worker_id, Worker.incarnation == incarnation))

    def workers(self) -> list[tuple[Worker, float, list[tuple[str, str]]]]:
        """Every worker, the seconds since its last sign of life, and the jobs it holds with their teams."""
        silence = func.extract("epoch", func.clock_timestamp() - Worker.heartbeat_at)
        statement = (
            select(Worker, silence, Job.id, Job.team_id)
            .outerjoin(Job, Job.owner == Worker.id + "/" + Worker.incarnation)
            .order_by(Worker.id, Job.claimed_at, Job.id)
        )
        found: dict[str, tuple[Worker, float, list[tuple[str, str]]]] = {}
        with across_teams(self._session):
            for worker, seconds, job_id, team_id in self._session.execute(statement):
                _, _, jobs = found.setdefault(worker.id, (worker, float(seconds), []))
                if job_id is not None:
                    jobs.append((job_id, team_id))
        return list(found.values())

    def base_ids(self) -> dict[str, list[str]]:
        """Ids of the registered bases by the hash of their weights."""
        found: dict[str, list[str]] = {}
        for base_id, weights in self._session.execute(
            select(BaseModelRow.id, BaseModelRow.weights_sha256).order_by(BaseModelRow.id)
        ):
            found.setdefault(weights, []).append(base_id)
        return found

    def hold(self, worker_id: str, drain: str | None) -> bool:
        """Drain a worker, or let it claim again; False if there is no such worker."""
        found = self._session.scalar(
            update(Worker)
            .where(Worker.id == worker_id)
            .values(drain=drain)
            .returning(Worker.id)
            .execution_options(synchronize_session=False)
        )
        return found is not None

    def ask_to_make_way(self, job_ids: Sequence[str], reason: str, *, loses_place: bool) -> None:
        """Tell the holders of these jobs, at their next heartbeat, to checkpoint and let go.

        `loses_place`: it waits from now on, behind the one that it makes way for.
        """
        now = func.clock_timestamp()
        self._session.execute(
            update(Job)
            .where(Job.id.in_(job_ids), Job.owner.is_not(None), Job.preempt_reason.is_(None))
            .values(preempt_reason=reason, **({"queued_at": now, "preempted_at": now} if loses_place else {}))
            .execution_options(synchronize_session=False)
        )

    def held_by(self, worker_id: str) -> Sequence[str]:
        """Jobs that this worker holds and runs on its GPU."""
        return self._session.scalars(
            select(Job.id).where(
                Job.owner.startswith(f"{worker_id}/", autoescape=True),
                Job.status != VALIDATING,
                Job.owner.is_not(None),
            )
        ).all()

    # What teams may have.

    def team_exists(self, team_id: str) -> bool:
        return self._session.get(Team, team_id) is not None

    def limits(self, team_id: str) -> TeamLimits | None:
        return self._session.get(TeamLimits, team_id, populate_existing=True)

    def lock_limits(self, team_id: str) -> TeamLimits | None:
        """A team's limits, until the end of the transaction nobody else's to count by; None: it has the defaults."""
        return self._session.get(TeamLimits, team_id, populate_existing=True, with_for_update=True)

    def save_limits(self, team_id: str, changes: Mapping[str, Any]) -> None:
        values = {**changes, "updated_at": func.clock_timestamp()}
        self._session.execute(
            insert(TeamLimits)
            .values(team_id=team_id, **values)
            .on_conflict_do_update(index_elements=["team_id"], set_=values)
        )

    def count_not_running(self, team_id: str) -> int:
        """Jobs of a team that are submitted and neither run nor are over."""
        # Constants in the statement: only so can a plan use the index of waiting jobs.
        statuses: BindParameter[Any] = bindparam("statuses", _NOT_RUNNING, expanding=True, literal_execute=True)
        return self._session.scalars(select(func.count()).where(Job.team_id == team_id, Job.status.in_(statuses))).one()

    def count_open(self, team_id: str) -> dict[str, tuple[int, int]]:
        """By open status: jobs of the whole pool, and the team's own."""
        own = func.count().filter(Job.team_id == team_id)
        # Constants in the statement: only so can plans use the indexes of open jobs.
        waiting: BindParameter[Any] = bindparam("statuses", (VALIDATING, QUEUED), expanding=True, literal_execute=True)
        statement = (
            select(Job.status, func.count(), own)
            .where(Job.status.in_(waiting))
            .group_by(Job.status)
            .union_all(
                select(Job.status, func.count(), own)
                .where(Job.status == literal_column("'running'"))
                .group_by(Job.status)
            )
        )
        with across_teams(self._session):
            rows = self._session.execute(statement).all()
        return {status: (total, mine) for status, total, mine in rows}
