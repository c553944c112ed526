"""Where a job stands in the queue, why it waits, and when it should start."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from app.db.engine import UnitOfWork
from app.db.scope import across_teams
from app.db.tables import Job
from app.identity.caller import Caller
from app.jobs.queue_repository import QueueRepository
from app.jobs.riding import where_it_runs
from app.jobs.service import JobService
from app.jobs.speeds import Speeds, Work
from app.jobs.states import Status
from app.pool.fairshare import explain
from app.pool.lookahead import Engaged, front_of, start_in_seconds
from app.pool.preemption import by_worker
from app.pool.service import PoolService
from app.pool.snapshot import Snapshot
from app.pool.standing import counts_before

LOOKED_THROUGH = 100
"""So many jobs are played through one by one; beyond, their mean length is taken."""
_WORDS = {
    Status.VALIDATING_FILES: "Its files are read and checked first; then it waits for a GPU.",
    Status.RUNNING: "The job runs.",
    Status.PAUSED: "The job is paused: it waits for you to resume it.",
}


@dataclass(frozen=True)
class Forecast:
    """When a job should start, or why that cannot be said."""

    start: datetime | None
    basis: Literal["free_worker", "simulation", "average"] | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Standing:
    """A job's place. Places and forecast are None unless it waits for a GPU, worker and company unless it runs."""

    job: Job
    why: str
    own_before: int | None = None
    others_before: int | None = None
    forecast: Forecast | None = None
    worker_id: str | None = None
    rides_with: int | None = None
    """Other jobs in the same process, of any team."""


class QueueService:
    def __init__(self, work: UnitOfWork, jobs: JobService, pool: PoolService) -> None:
        self._jobs = jobs
        self._pool = pool
        self._session = work.session
        self._repository = QueueRepository(work.session)

    def standing(self, caller: Caller, job_id: str) -> Standing:
        """`NotFound` if there is no such job of the caller's team."""
        job = self._jobs.get(caller, job_id)
        if job.status == Status.RUNNING and job.owner is not None:
            worker_id, others = job.owner.partition("/")[0], self._pool.riding_beside(job)
            return Standing(job, where_it_runs(worker_id, others), worker_id=worker_id, rides_with=others)
        if job.status != Status.QUEUED:
            return Standing(job, _WORDS.get(Status(job.status), "The job is over."))
        snapshot = self._pool.snapshot_around(job)
        own = next((one for one in snapshot.waiting if one.job_id == job.id), None)
        if own is None:
            until = "" if job.not_before is None else f", not before {job.not_before:%H:%M:%S} UTC"
            return Standing(job, f"The job waits a moment before its next attempt{until}.")
        before = counts_before(snapshot, own)
        with across_teams(self._session):
            forecast = self._forecast(job, sum(before))
        return Standing(job, explain(snapshot, job.id), *before, forecast=forecast)

    def _forecast(self, job: Job, before: int) -> Forecast:
        snapshot, running, free, now = self._pool.look_ahead(min(before, LOOKED_THROUGH) + 1)
        seated = by_worker(running)
        workers = len(seated) + len(free)
        if not workers:
            return Forecast(None, reason="No worker of the pool is there.")
        if before > LOOKED_THROUGH:
            return self._by_average(snapshot, before, workers, now)
        front = front_of(snapshot, job.id)
        works = self._repository.works([*(one.job_id for one in front.waiting), *(one.job_id for one in running)])
        speeds = Speeds(self._repository.measured(work.base_id for work in works.values()))
        durations: dict[str, float] = {}
        for one in front.waiting:
            seconds = speeds.seconds_of(works[one.job_id])
            if seconds is None and one.job_id != job.id:
                return _unmeasured(works[one.job_id], "a job that comes first")
            durations[one.job_id] = seconds or 0.0
        engaged = [Engaged(card, 0.0) for card in free]
        left = self._repository.remaining_seconds(one.job_id for one in running)
        for riders in seated:
            ends = {one.job_id: _ends_in(works[one.job_id], *left[one.job_id], speeds) for one in riders}
            unknown = next((job_id for job_id, seconds in ends.items() if seconds is None), None)
            if unknown is not None:
                return _unmeasured(works[unknown], "a job that runs")
            last = max(seconds for seconds in ends.values() if seconds is not None)
            engaged.append(Engaged(riders[0].card, last, frozenset(one.team_id for one in riders)))
        seconds = start_in_seconds(front, job.id, tuple(engaged), durations)
        if seconds is None:
            return Forecast(None, reason="No worker that is there now will take it: see why it waits.")
        basis: Literal["free_worker", "simulation"] = "free_worker" if seconds == 0 else "simulation"
        return Forecast(now + timedelta(seconds=seconds), basis)

    def _by_average(self, snapshot: Snapshot, before: int, workers: int, now: datetime) -> Forecast:
        """All GPUs share the jobs before; each takes as long as those at the front do on average."""
        works = self._repository.works(one.job_id for one in snapshot.waiting)
        speeds = Speeds(self._repository.measured({work.base_id for work in works.values()}))
        known = [seconds for work in works.values() if (seconds := speeds.seconds_of(work)) is not None]
        if not known:
            return Forecast(None, reason="No earlier job of the bases that wait has been measured.")
        mean = sum(known) / len(known)
        return Forecast(now + timedelta(seconds=mean * before / workers), "average")


def _ends_in(work: Work, left_seconds: float | None, ran_seconds: float, speeds: Speeds) -> float | None:
    if left_seconds is not None:
        return left_seconds
    expected = speeds.seconds_of(work)
    return None if expected is None else max(0.0, expected - ran_seconds)


def _unmeasured(work: Work, who: str) -> Forecast:
    kind = "training" if work.purpose == "training" else "evaluation"
    return Forecast(None, reason=f"No {kind} of the base '{work.base_id}' has been measured yet, and {who} is one.")
