"""SQL of the snapshot: only the rows that `pick` can need, however many jobs wait.

Within a team and a priority the older job always comes first, so of all waiting jobs only the oldest of each team and
priority can be picked (of those that fit the worker), and the oldest of them whose base the worker holds.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Integer,
    Row,
    Select,
    and_,
    column,
    func,
    or_,
    select,
    true,
    values,
)
from sqlalchemy.orm import Session, aliased

from app.db.tables import BaseModelRow, Job, Team, TeamLimits, Worker
from app.pool.conditions import QUEUED, VALIDATING, card_of, claimable, fitting, has_status, running_job
from app.pool.preemption import RunningJob
from app.pool.snapshot import AGING_SECONDS, Capacity, Card, Needs, Snapshot, TeamUse, WaitingJob

_PRIORITIES = (-1, 0, 1)


class SnapshotRows:
    """Reads with one moment of the database's clock for all of them."""

    def __init__(self, session: Session, *, alive_seconds: float) -> None:
        self._session = session
        self._alive_seconds = alive_seconds

    def for_claim(self, status: str, worker: Card | None) -> Snapshot:
        """What decides which job this worker takes."""
        now = self.now()
        rows = self._heads(status, now, worker)
        if worker is not None and worker.resident:
            rows = [*rows, *self._heads(status, now, worker, worker.resident)]
        waiting = _distinct(_waiting(row, now) for row in rows)
        return Snapshot(
            waiting=waiting,
            teams=self._uses(status, {job.team_id for job in waiting}, now, {}),
            capacity=self.capacity(),
            worker=worker,
        )

    def for_explanation(self, job: Job) -> Snapshot:
        """What says where a queued job stands: heads and numbers of all teams, and the job itself."""
        now = self.now()
        counts = self.waiting_counts()
        waiting = {one.job_id: one for one in self._ranked_heads(now)}
        if self._is_claimable(job.id):
            own = _waiting(job, now)
            waiting[job.id] = WaitingJob(
                own.job_id,
                own.team_id,
                own.priority,
                own.waited_seconds,
                own.base_id,
                own.needs,
                own.overtaken,
                self._rank(own, job, now),
            )
        return Snapshot(
            waiting=tuple(waiting.values()),
            teams=self._uses(QUEUED, {*counts, job.team_id}, now, counts),
            capacity=self.capacity(),
            cards=self.cards(),
        )

    def front(self, depth: int) -> Snapshot:
        """The first `depth` jobs of each team and priority, to look ahead with."""
        now = self.now()
        waiting = tuple(_waiting(row, now) for row in self._heads(QUEUED, now, None, depth=depth))
        return Snapshot(
            waiting=waiting,
            teams=self._uses(QUEUED, {job.team_id for job in waiting}, now, {}),
            capacity=self.capacity(),
            cards=self.cards(),
        )

    def for_preemption(self) -> tuple[Snapshot, tuple[RunningJob, ...], tuple[Card, ...]]:
        """Heads and uses of all teams, the jobs that run, and the workers that are free."""
        now = self.now()
        snapshot = Snapshot(
            waiting=tuple(_waiting(row, now) for row in self._heads(QUEUED, now, None)),
            teams=self._uses(QUEUED, None, now, self.waiting_counts()),
            capacity=self.capacity(),
        )
        rows: Sequence[Any] = self._session.execute(
            select(Worker, Job)
            .outerjoin(Job, Job.owner == Worker.id + "/" + Worker.incarnation)
            .where(self._is_alive(), Worker.drain.is_(None))
            .order_by(Worker.id)
        ).all()
        running = tuple(running_job(job, worker, now) for worker, job in rows if job is not None)
        return snapshot, running, tuple(card_of(worker, frozenset()) for worker, job in rows if job is None)

    def now(self) -> datetime:
        moment: datetime = self._session.execute(select(func.clock_timestamp())).scalar_one()
        return moment

    def capacity(self) -> Capacity:
        """Of the workers that live, drained ones too: what runs there counts."""
        gpus, memory = self._session.execute(
            select(func.coalesce(func.sum(Worker.gpus), 0), func.coalesce(func.sum(Worker.memory_bytes), 0)).where(
                self._is_alive()
            )
        ).one()
        return Capacity(int(gpus or 0), int(memory or 0))

    def cards(self) -> tuple[Card, ...]:
        """Workers that live and take jobs."""
        rows = self._session.scalars(select(Worker).where(self._is_alive(), Worker.drain.is_(None)).order_by(Worker.id))
        return tuple(card_of(worker, frozenset()) for worker in rows)

    def worker(self, owner: str) -> tuple[Worker, Card] | None:
        """The worker that leases name so, and what it offers; None for one that is not registered."""
        worker_id, _, incarnation = owner.rpartition("/")
        worker = self._session.scalar(select(Worker).where(Worker.id == worker_id, Worker.incarnation == incarnation))
        if worker is None:
            return None
        resident = self._session.scalars(
            select(BaseModelRow.id).where(BaseModelRow.weights_sha256 == worker.resident_base)
        )
        return worker, card_of(worker, frozenset(resident))

    def waiting_counts(self) -> dict[str, int]:
        """Jobs that could start now, by team."""
        rows = self._session.execute(
            select(Job.team_id, func.count().label("number"))
            .where(has_status(QUEUED), claimable())
            .group_by(Job.team_id)
        )
        return {row.team_id: row.number for row in rows}

    def all_uses(self) -> dict[str, TeamUse]:
        """Of all teams that run or wait."""
        return self._uses(QUEUED, None, self.now(), self.waiting_counts())

    def _is_alive(self) -> ColumnElement[bool]:
        return Worker.heartbeat_at > func.clock_timestamp() - timedelta(seconds=self._alive_seconds)

    def _is_claimable(self, job_id: str) -> bool:
        found = self._session.scalar(select(Job.id).where(Job.id == job_id, has_status(QUEUED), claimable()))
        return found is not None

    def _heads(
        self,
        status: str,
        now: datetime,
        worker: Card | None,
        base_ids: Iterable[str] | None = None,
        *,
        depth: int = 1,
    ) -> Sequence[Row[Any]]:
        """The oldest jobs of each team and priority that the worker can run: index probes, one for each pair."""
        priority = values(column("priority", Integer), name="levels").data([(one,) for one in _PRIORITIES])
        inner = select(*_COLUMNS).where(
            Job.team_id == Team.id,
            Job.priority == priority.c.priority,
            has_status(status),
            claimable(now),
            *fitting(worker),
        )
        if base_ids is None:
            head = inner.order_by(Job.queued_at, Job.id).limit(depth).lateral("head")
            return self._session.execute(
                select(*head.c).select_from(Team).join(priority, true()).join(head, true())
            ).all()
        held = values(column("base_id", Job.base_id.type), name="held").data([(one,) for one in sorted(base_ids)])
        head = inner.where(Job.base_id == held.c.base_id).order_by(Job.queued_at, Job.id).limit(depth).lateral("head")
        return self._session.execute(
            select(*head.c).select_from(Team).join(priority, true()).join(held, true()).join(head, true())
        ).all()

    def _ranked_heads(self, now: datetime) -> list[WaitingJob]:
        """The first job of each team, which has rank 0."""
        first: dict[str, WaitingJob] = {}
        for row in self._heads(QUEUED, now, None):
            job = _waiting(row, now)
            if job.team_id not in first or job.key < first[job.team_id].key:
                first[job.team_id] = job
        return list(first.values())

    def _rank(self, own: WaitingJob, job: Job, now: datetime) -> int:
        """Jobs of its team that come before it: counted priority by priority, by the moment that gives its level."""
        before: list[ColumnElement[bool]] = []
        for priority in _PRIORITIES:
            # A job of this priority has the same level while it waited at least so many whole periods.
            periods = own.level - priority
            same_level_since = now - timedelta(seconds=periods * AGING_SECONDS)
            higher_level_since = now - timedelta(seconds=(periods + 1) * AGING_SECONDS)
            older = or_(Job.queued_at < job.queued_at, and_(Job.queued_at == job.queued_at, Job.id < job.id))
            before.append(
                and_(
                    Job.priority == priority,
                    or_(
                        Job.queued_at <= higher_level_since,
                        and_(Job.queued_at <= same_level_since, older),
                    ),
                )
            )
        statement = select(func.count()).where(
            Job.team_id == job.team_id, has_status(QUEUED), claimable(now), or_(*before)
        )
        return self._session.scalars(statement).one()

    def _uses(
        self, status: str, team_ids: set[str] | None, now: datetime, counts: dict[str, int]
    ) -> dict[str, TeamUse]:
        """What these teams (None: all that run or wait) have of the same kind of worker, and may have."""
        trains = status != VALIDATING
        holder = aliased(Worker)
        held = self._session.execute(
            select(Job.team_id, func.count(), func.coalesce(func.sum(holder.memory_bytes), 0))
            .outerjoin(holder, Job.owner == holder.id + "/" + holder.incarnation)
            .where(Job.owner.is_not(None), Job.status != VALIDATING if trains else Job.status == VALIDATING)
            .group_by(Job.team_id)
        )
        in_use = {team_id: (number, int(memory or 0) if trains else 0) for team_id, number, memory in held}
        uses = {}
        team_ids = {*in_use, *counts} if team_ids is None else team_ids
        for team_id, weight, max_gpus, served_at in self._session.execute(_limits_and_turns(team_ids)):
            gpus, memory = in_use.get(team_id, (0, 0))
            uses[team_id] = TeamUse(
                gpus=gpus,
                memory_bytes=memory,
                weight=1.0 if weight is None else weight,
                max_gpus=max_gpus if trains else None,
                served_seconds_ago=float("inf") if served_at is None else (now - served_at).total_seconds(),
                waiting=counts.get(team_id, 0),
            )
        return uses


_COLUMNS = (
    Job.id,
    Job.team_id,
    Job.priority,
    Job.queued_at,
    Job.base_id,
    Job.memory_bytes,
    Job.compute_capability,
    Job.overtaken,
)


def _limits_and_turns(team_ids: set[str]) -> Select[*tuple[Any, ...]]:
    """Limits of these teams, and when each last got a GPU: one index probe a team, never a walk over old jobs."""
    last = (
        select(Job.claimed_at)
        .where(Job.team_id == Team.id, Job.claimed_at.is_not(None))
        .order_by(Job.claimed_at.desc())
        .limit(1)
        .scalar_subquery()
    )
    return (
        select(Team.id, TeamLimits.weight, TeamLimits.max_gpus, last)
        .outerjoin(TeamLimits, TeamLimits.team_id == Team.id)
        .where(Team.id.in_(sorted(team_ids)))
    )


def _waiting(row: Row[Any] | Job, now: datetime) -> WaitingJob:
    return WaitingJob(
        job_id=row.id,
        team_id=row.team_id,
        priority=row.priority,
        waited_seconds=(now - row.queued_at).total_seconds(),
        base_id=row.base_id,
        needs=Needs(row.memory_bytes, row.compute_capability),
        overtaken=row.overtaken,
    )


def _distinct(jobs: Iterable[WaitingJob]) -> tuple[WaitingJob, ...]:
    return tuple({job.job_id: job for job in jobs}.values())
