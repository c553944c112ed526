"""SQL of the snapshot: only the rows that `pick` can need, however many jobs wait.

Of all waiting jobs only the first of each team can be picked (of those that fit the worker), and the first of each
team whose base the worker holds.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Interval, Row, and_, bindparam, func, literal, or_, select, tuple_
from sqlalchemy.orm import Session, load_only

from app.db.tables import BaseModelRow, Job, Worker
from app.pool.conditions import QUEUED, card_of, claimable, has_status, held_back, running_job
from app.pool.fairshare import rivals
from app.pool.heads_repository import first_jobs
from app.pool.preemption import RunningJob
from app.pool.snapshot import AGING_SECONDS, Capacity, Card, Needs, Snapshot, TeamUse, WaitingJob
from app.pool.uses_repository import team_uses

_PRIORITIES = (-1, 0, 1)
# Without the long texts and reports that these rows have besides.
_OF_WORKERS = (Worker.id, Worker.memory_bytes, Worker.compute_capability, Worker.bases, Worker.gpus)
_OF_JOBS = (
    Job.team_id,
    Job.priority,
    Job.base_id,
    Job.memory_bytes,
    Job.compute_capability,
    Job.claimed_at,
    Job.preempted_at,
    Job.preempt_reason,
)
_TAKES_JOBS = (Worker.drain.is_(None), Worker.unready.is_(None))
_ALIVE = Worker.heartbeat_at > func.clock_timestamp() - bindparam("alive_seconds", type_=Interval)
# Part of each claim, and so built once.
_MOMENT = select(func.clock_timestamp(), func.sum(Worker.gpus), func.sum(Worker.memory_bytes)).where(_ALIVE)
_WORKER = select(
    Worker,
    select(func.array_agg(BaseModelRow.id))
    .where(BaseModelRow.weights_sha256 == Worker.resident_base)
    .scalar_subquery(),
).where(Worker.id == bindparam("worker_id"), Worker.incarnation == bindparam("incarnation"))


@dataclass(frozen=True)
class QueueView:
    """The queue of the whole pool at one moment, by its heads and numbers."""

    now: datetime
    snapshot: Snapshot

    def knows(self, job: Job) -> bool:
        """Whether it was read after the job came into it."""
        return job.queued_at <= self.now and job.team_id in self.snapshot.teams


class SnapshotRows:
    """Reads with one moment of the database's clock for all of them."""

    def __init__(self, session: Session, *, alive_seconds: float) -> None:
        self._session = session
        self._alive_seconds = alive_seconds

    def for_claim(self, status: str, worker: Card | None, *, leaving: Collection[str] = ()) -> Snapshot:
        """What decides which job this worker takes; `leaving`: as if these teams, who are on it, had left."""
        now, capacity = self._moment()
        heads = _distinct(_waiting(row, now) for row in first_jobs(self._session, status, now, worker))
        uses = team_uses(self._session, status, {job.team_id for job in heads}, now)
        if worker is not None:
            uses |= {team_id: uses[team_id].without(worker) for team_id in uses.keys() & set(leaving)}
        snapshot = Snapshot(waiting=heads, teams=uses, capacity=capacity, worker=worker)
        near = rivals(snapshot)
        if not near or worker is None:
            return snapshot
        # A job of the base at hand, deeper in the queue of such a team, may come before the one whose turn it is.
        held = first_jobs(self._session, status, now, worker, base_ids=worker.resident, team_ids=near)
        return replace(snapshot, waiting=_distinct((*heads, *(_waiting(row, now) for row in held))))

    def queue(self) -> QueueView:
        """What says where queued jobs stand: heads and numbers of all teams."""
        now, capacity = self._moment()
        counts = self.waiting_counts(now)
        heads = {row.id: _waiting(row, now) for row in first_jobs(self._session, QUEUED, now, None)}
        uses = team_uses(self._session, QUEUED, set(counts), now, counts=counts)
        return QueueView(now, Snapshot(tuple(heads.values()), uses, capacity, cards=self.cards()))

    def for_explanation(self, job: Job, queue: QueueView) -> Snapshot:
        """The queue with this queued job in it; asks for rows of the job's own team only."""
        now = queue.now
        waiting = {one.job_id: one for one in queue.snapshot.waiting}
        if self._is_claimable(job.id, now):
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
        return replace(queue.snapshot, waiting=tuple(waiting.values()))

    def front(self, depth: int) -> Snapshot:
        """The first `depth` jobs of each team, to look ahead with."""
        now, capacity = self._moment()
        waiting = tuple(_waiting(row, now) for row in first_jobs(self._session, QUEUED, now, None, depth=depth))
        return Snapshot(
            waiting=waiting,
            teams=team_uses(self._session, QUEUED, {job.team_id for job in waiting}, now),
            capacity=capacity,
            cards=self.cards(),
        )

    def has_urgent(self, priority: int) -> bool:
        """Whether the first job of some team is of this priority."""
        now = self.now()
        return any(row.priority == priority for row in first_jobs(self._session, QUEUED, now, None))

    def for_preemption(self) -> tuple[Snapshot, tuple[RunningJob, ...], tuple[Card, ...]]:
        """Heads and uses of all teams, the jobs that run, and the workers that are free."""
        now, capacity = self._moment()
        waiting = tuple(_waiting(row, now) for row in first_jobs(self._session, QUEUED, now, None))
        # Who waits matters here, not for how many jobs.
        counts = Counter(job.team_id for job in waiting)
        snapshot = Snapshot(
            waiting=waiting,
            teams=team_uses(self._session, QUEUED, counts, now, counts=counts, with_holders=True),
            capacity=capacity,
        )
        rows: Sequence[Any] = self._session.execute(
            select(Worker, Job)
            .options(load_only(*_OF_WORKERS), load_only(*_OF_JOBS))
            .outerjoin(Job, Job.owner == Worker.id + "/" + Worker.incarnation)
            .where(self._is_alive(), *_TAKES_JOBS)
            .order_by(Worker.id)
        ).all()
        running = tuple(running_job(job, worker, now) for worker, job in rows if job is not None)
        return snapshot, running, tuple(card_of(worker, frozenset()) for worker, job in rows if job is None)

    def now(self) -> datetime:
        moment: datetime = self._session.execute(select(func.clock_timestamp())).scalar_one()
        return moment

    def _moment(self) -> tuple[datetime, Capacity]:
        """Now, and the workers that live; drained ones too, as what runs there counts."""
        row: Any = self._session.execute(_MOMENT, {"alive_seconds": timedelta(seconds=self._alive_seconds)}).one()
        now, gpus, memory = row
        return now, Capacity(int(gpus or 0), int(memory or 0))

    def cards(self) -> tuple[Card, ...]:
        """Workers that live and take jobs."""
        rows: Sequence[Any] = self._session.execute(
            select(*_OF_WORKERS).where(self._is_alive(), *_TAKES_JOBS).order_by(Worker.id)
        ).all()
        return tuple(card_of(worker, frozenset()) for worker in rows)

    def idle_cards(self) -> tuple[Card, ...]:
        """Workers that live, take jobs and have none."""
        holds = select(Job.id).where(Job.owner == Worker.id + "/" + Worker.incarnation)
        rows: Sequence[Any] = self._session.execute(
            select(*_OF_WORKERS).where(self._is_alive(), *_TAKES_JOBS, ~holds.exists())
        ).all()
        return tuple(card_of(worker, frozenset()) for worker in rows)

    def worker(self, owner: str) -> tuple[Worker, Card] | None:
        """The worker that leases name so, and what it offers; None for one that is not registered."""
        worker_id, _, incarnation = owner.rpartition("/")
        found: Any = self._session.execute(_WORKER, {"worker_id": worker_id, "incarnation": incarnation}).one_or_none()
        return None if found is None else (found[0], card_of(found[0], frozenset(found[1] or ())))

    def waiting_counts(self, now: datetime) -> Counter[str]:
        """Jobs that could start now, by team."""
        counts = Counter[str]()
        # All that wait from the index alone, less the few that are held or wait for a pause to end.
        for where, sign in (((), 1), ((held_back(now),), -1)):
            rows = self._session.execute(
                select(Job.team_id, func.count().label("number"))
                .where(has_status(QUEUED), *where)
                .group_by(Job.team_id)
            )
            for row in rows:
                counts[row.team_id] += sign * row.number
        return +counts

    def all_uses(self) -> dict[str, TeamUse]:
        """Of all teams that run or wait."""
        now = self.now()
        counts = self.waiting_counts(now)
        return team_uses(self._session, QUEUED, counts, now, counts=counts, with_holders=True)

    def _is_alive(self) -> ColumnElement[bool]:
        return Worker.heartbeat_at > func.clock_timestamp() - timedelta(seconds=self._alive_seconds)

    def _is_claimable(self, job_id: str, now: datetime) -> bool:
        found = self._session.scalar(select(Job.id).where(Job.id == job_id, has_status(QUEUED), claimable(now)))
        return found is not None

    def _rank(self, own: WaitingJob, job: Job, now: datetime) -> int:
        """Jobs of its team that come before it: of each priority those older than one moment, counted in the index."""
        ranges = [and_(Job.priority == priority, _ahead(own.level - priority, job, now)) for priority in _PRIORITIES]
        of_team = (Job.team_id == job.team_id, has_status(QUEUED))
        all_ahead = [select(func.count()).where(*of_team, one).scalar_subquery() for one in ranges]
        held = select(func.count()).where(*of_team, held_back(now), or_(*ranges)).scalar_subquery()
        numbers: Any = self._session.execute(select(*all_ahead, held)).one()
        return int(sum(numbers[:-1]) - numbers[-1])


def _ahead(periods: float, job: Job, now: datetime) -> ColumnElement[bool]:
    """Jobs of a priority that are ahead of this one, which has its level after so many whole periods of waiting."""
    same_level_since = now - timedelta(seconds=periods * AGING_SECONDS)
    higher_level_since = same_level_since - timedelta(seconds=AGING_SECONDS)
    if job.queued_at > same_level_since:
        return Job.queued_at <= same_level_since
    if job.queued_at <= higher_level_since:
        return Job.queued_at <= higher_level_since
    return tuple_(Job.queued_at, Job.id) < tuple_(literal(job.queued_at), literal(job.id))


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
