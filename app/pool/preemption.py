"""Whether a running job shall make way for one of a higher claim: one pure function over a snapshot.

Rules: the claimant is of high priority and finds no free worker. A job of its own team makes way if it is of a lower
priority. A job of another team makes way if that team uses more than its weighted share of the pool and the claimant's
team would stay within its own. Nobody makes way before it has run for a while, nor twice within that time, and only
one worker of the pool is cleared at a time. Above all, the GPU must then go to the claimant: `pick` is asked.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from app.pool.fairshare import HIGH, pick
from app.pool.snapshot import Card, Needs, Snapshot, WaitingJob, dominant_gpus, fits


@dataclass(frozen=True, slots=True)
class RunningJob:
    """A job that holds a worker's GPU."""

    job_id: str
    team_id: str
    priority: int
    base_id: str
    needs: Needs
    card: Card
    """Of its worker."""
    ran_seconds: float
    """Since this attempt began."""
    made_way_seconds_ago: float = float("inf")
    is_asked: bool = False
    """It was asked to let go and has not yet."""
    worker_id: str = ""
    """Empty: it is alone on its worker."""


@dataclass(frozen=True, slots=True)
class Preemption:
    """Who shall make way on one worker, for whom, and why in words for each of them."""

    victims: tuple[RunningJob, ...]
    """All that ride there: with one of them left the GPU would not be free."""
    claimant: WaitingJob
    reasons: tuple[str, ...]

    @property
    def victim(self) -> RunningJob:
        """The first to be weighed."""
        return self.victims[0]


def victims(
    snapshot: Snapshot, running: tuple[RunningJob, ...], *, free: tuple[Card, ...], rest_seconds: float
) -> Preemption | None:
    """The one job that shall make way now, with all that ride beside it; None if none shall.

    `snapshot` names no worker; `free` are the workers that could claim. `rest_seconds`: so long a job runs before it
    makes way, and between two times. Whoever rides beside one that makes way must be one that would itself.
    """
    if any(job.is_asked for job in running):
        return None
    seated = by_worker(running)
    for claimant in _claimants(snapshot, free):
        for job in sorted(running, key=lambda one: _order(snapshot, claimant, one)):
            (all_there,) = (riders for riders in seated if job in riders)
            rested = min(min(one.ran_seconds, one.made_way_seconds_ago) for one in all_there)
            if rested < rest_seconds or not fits(claimant, job.card):
                continue
            reasons = tuple(reason for one in all_there if (reason := _reason(snapshot, claimant, one)) is not None)
            if len(reasons) == len(all_there) and is_claimants(snapshot, claimant, all_there):
                return Preemption(all_there, claimant, reasons)
    return None


def is_claimants(snapshot: Snapshot, claimant: WaitingJob, jobs: tuple[RunningJob, ...]) -> bool:
    """Whether the GPU of `jobs` would go to the claimant, were it free and they back in the queue."""
    card = jobs[0].card
    back = (WaitingJob(job.job_id, job.team_id, job.priority, 0.0, job.base_id, job.needs) for job in jobs)
    left = {job.team_id: snapshot.use(job.team_id).without(card) for job in jobs}
    after = replace(snapshot, waiting=(*snapshot.waiting, *back), teams={**snapshot.teams, **left}, worker=card)
    return pick(after) == claimant.job_id


def by_worker(running: Iterable[RunningJob]) -> list[tuple[RunningJob, ...]]:
    """Those that ride together."""
    found: dict[str, tuple[RunningJob, ...]] = {}
    for job in running:
        key = job.worker_id or job.job_id
        found[key] = (*found.get(key, ()), job)
    return list(found.values())


def entitled_gpus(snapshot: Snapshot, team_id: str) -> float:
    """The team's weighted part of all GPUs, among the teams that run or wait."""
    weights = sum(use.weight for use in snapshot.teams.values() if use.gpus or use.waiting)
    return snapshot.capacity.gpus * snapshot.use(team_id).weight / weights if weights else 0.0


def _claimants(snapshot: Snapshot, free: Iterable[Card]) -> Iterator[WaitingJob]:
    """Jobs of high priority that no free worker can take, oldest first."""
    urgent = [job for job in snapshot.waiting if job.priority >= HIGH and not any(fits(job, card) for card in free)]
    yield from sorted(urgent, key=lambda job: (-job.waited_seconds, job.job_id))


def _order(snapshot: Snapshot, claimant: WaitingJob, job: RunningJob) -> tuple[float, int, float, str]:
    """Who makes way first: the team most above its share, the lowest priority, the run that began last."""
    above = _gpus(snapshot, job.team_id) / max(entitled_gpus(snapshot, job.team_id), 1e-9)
    own = 0.0 if job.team_id == claimant.team_id else -above
    return (own, job.priority, job.ran_seconds, job.job_id)


def _reason(snapshot: Snapshot, claimant: WaitingJob, job: RunningJob) -> str | None:
    if claimant.team_id == job.team_id:
        if job.priority >= claimant.priority:
            return None
        return f"Your team's job {claimant.job_id} is of a higher priority and no worker was free for it."
    theirs, own = entitled_gpus(snapshot, claimant.team_id), entitled_gpus(snapshot, job.team_id)
    if _gpus(snapshot, claimant.team_id) + 1 > theirs or _gpus(snapshot, job.team_id) <= own:
        return None
    if not snapshot.use(claimant.team_id).has_room():
        return None
    return (
        "A job of high priority of another team had the higher claim and no worker was free for it: that team uses "
        f"{_gpus(snapshot, claimant.team_id):g} of the {theirs:.1f} GPUs of its share, yours "
        f"{_gpus(snapshot, job.team_id):g} of {own:.1f}."
    )


def _gpus(snapshot: Snapshot, team_id: str) -> float:
    return dominant_gpus(snapshot.use(team_id), snapshot.capacity)
