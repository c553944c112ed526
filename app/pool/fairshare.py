"""Which waiting job runs next, and why yours waits: one pure ordering, used for both.

Between teams: the team with the fewest GPUs in use (for its weight) comes first; among equals, the one
served longest ago. Within a team: the higher priority first, then the older job; waiting raises a
priority by one level every `AGING_SECONDS`. So nobody waits for ever: each team's turn comes round,
and within a team every job outgrows the priority of later ones.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

AGING_SECONDS = 3600.0


@dataclass(frozen=True)
class WaitingJob:
    """A job that could start now if a GPU were free."""

    job_id: str
    team_id: str
    priority: int
    waited_seconds: float


@dataclass(frozen=True)
class TeamUse:
    """What a team has of the pool."""

    running: int = 0
    """GPUs in use."""
    weight: float = 1.0
    served_seconds_ago: float = float("inf")
    """Since a job of the team last got a GPU; infinite if never."""


@dataclass(frozen=True)
class Snapshot:
    """The pool at one moment. A team without an entry has nothing running."""

    waiting: tuple[WaitingJob, ...]
    teams: Mapping[str, TeamUse]


def pick(snapshot: Snapshot) -> str | None:
    """The job for the next free GPU; None if none waits."""
    return next(ordered(snapshot), None)


def position(snapshot: Snapshot, job_id: str) -> int | None:
    """How many jobs come first (0: it is next); None if the job does not wait here."""
    for before, other in enumerate(ordered(snapshot)):
        if other == job_id:
            return before
    return None


def explain(snapshot: Snapshot, job_id: str) -> str:
    """One sentence or two for the owner of a waiting job, from the same ordering that `pick` uses."""
    before = position(snapshot, job_id)
    if before is None:
        return "The job is not waiting for a GPU."
    job = next(job for job in snapshot.waiting if job.job_id == job_id)
    use = snapshot.teams.get(job.team_id, TeamUse())
    running = f"Your team has {_count(use.running, 'GPU')} in use."
    if before == 0:
        return f"The job is next: it starts when a GPU is free. {running}"
    first = list(ordered(snapshot))[:before]
    own = sum(other.team_id == job.team_id for other in snapshot.waiting if other.job_id in first)
    reasons = []
    if own:
        reasons.append(f"{own} of your team's that are older or of a higher priority")
    if before - own:
        reasons.append(f"{before - own} of teams that use fewer GPUs for their share or were served longer ago")
    return f"{_count(before, 'job')} come first: {' and '.join(reasons)}. {running}"


def ordered(snapshot: Snapshot) -> Iterator[str]:
    """Waiting jobs in the order in which GPUs would be given to them, if none became free by itself."""
    queues: dict[str, list[WaitingJob]] = {}
    for job in sorted(snapshot.waiting, key=_job_key, reverse=True):
        queues.setdefault(job.team_id, []).append(job)
    uses = {team_id: snapshot.teams.get(team_id, TeamUse()) for team_id in queues}
    turn = 0.0
    while queues:
        team_id = min(queues, key=lambda team: _team_key(uses[team], queues[team][-1]))
        job = queues[team_id].pop()
        yield job.job_id
        # Served just now, each later one more recently than the one before.
        turn -= 1.0
        uses[team_id] = replace(uses[team_id], running=uses[team_id].running + 1, served_seconds_ago=turn)
        if not queues[team_id]:
            del queues[team_id]


def _team_key(use: TeamUse, head: WaitingJob) -> tuple[float, float, float, str]:
    return (use.running / use.weight, -use.served_seconds_ago, -head.waited_seconds, head.job_id)


def _job_key(job: WaitingJob) -> tuple[float, float, str]:
    level = job.priority + job.waited_seconds // AGING_SECONDS
    return (-level, -job.waited_seconds, job.job_id)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
