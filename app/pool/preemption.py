"""Whether a running job shall make way for one of a higher claim: one pure function over a snapshot.

Rules: the claimant is of high priority and finds no free worker. A job of its own team makes way if it is of a lower
priority. A job of another team makes way if that team uses more than its weighted share of the pool and the claimant's
team would stay within its own. Nobody makes way before it has run for a while, nor twice within that time, and only
one job of the pool does at a time. Above all, the GPU must then go to the claimant: `pick` is asked.
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


@dataclass(frozen=True, slots=True)
class Preemption:
    """Who shall make way, for whom, on which worker, and why in words for the one who does."""

    victim: RunningJob
    claimant: WaitingJob
    reason: str


def victim(
    snapshot: Snapshot, running: tuple[RunningJob, ...], *, free: tuple[Card, ...], rest_seconds: float
) -> Preemption | None:
    """The one job that shall make way now; None if none shall.

    `snapshot` names no worker; `free` are the workers that could claim. `rest_seconds`: so long a job runs before it
    makes way, and between two times.
    """
    if any(job.is_asked for job in running):
        return None
    for claimant in _claimants(snapshot, free):
        for job in sorted(running, key=lambda one: _order(snapshot, claimant, one)):
            if min(job.ran_seconds, job.made_way_seconds_ago) < rest_seconds or not fits(claimant, job.card):
                continue
            reason = _reason(snapshot, claimant, job)
            if reason is not None and is_claimants(snapshot, claimant, job):
                return Preemption(job, claimant, reason)
    return None


def is_claimants(snapshot: Snapshot, claimant: WaitingJob, job: RunningJob) -> bool:
    """Whether the GPU of `job` would go to the claimant, were it free and `job` back in the queue."""
    use = snapshot.use(job.team_id)
    memory = max(0, use.memory_bytes - (job.card.memory_bytes or 0))
    back = WaitingJob(job.job_id, job.team_id, job.priority, 0.0, job.base_id, job.needs)
    after = replace(
        snapshot,
        waiting=(*snapshot.waiting, back),
        teams={**snapshot.teams, job.team_id: replace(use, gpus=max(0, use.gpus - 1), memory_bytes=memory)},
        worker=job.card,
    )
    return pick(after) == claimant.job_id


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
