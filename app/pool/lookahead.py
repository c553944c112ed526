"""When a waiting job should start: the picks of the next GPUs that become free, played through.

Each GPU that ends its job takes what `choose` gives it, for as long as earlier jobs say that such a job takes. Nobody
rides beside others, nobody joins the queue meanwhile and no worker comes or goes: it is a forecast, not a promise.
"""

import heapq
from collections.abc import Mapping
from dataclasses import dataclass, replace

from app.pool.fairshare import choose, ordered
from app.pool.snapshot import Card, Snapshot, TeamUse, WaitingJob

_LEAST_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Engaged:
    """A worker of the pool, and when it is free: 0 seconds from now if it is."""

    card: Card
    free_in_seconds: float
    team_ids: frozenset[str] = frozenset()
    """Whose jobs it runs."""


def front_of(snapshot: Snapshot, job_id: str) -> Snapshot:
    """The snapshot with the jobs only that come before this one, and itself."""
    kept: set[str] = set()
    for before in ordered(snapshot):
        kept.add(before)
        if before == job_id:
            break
    return replace(snapshot, waiting=tuple(job for job in snapshot.waiting if job.job_id in kept))


def start_in_seconds(
    snapshot: Snapshot, job_id: str, engaged: tuple[Engaged, ...], durations: Mapping[str, float]
) -> float | None:
    """Seconds until the job starts; None if it never does on these workers.

    `snapshot` holds the jobs that come before and the job itself; `durations` says of each how many seconds it takes.
    """
    waiting = {job.job_id: job for job in snapshot.waiting}
    teams = dict(snapshot.teams)
    ends = [(one.free_in_seconds, number, one) for number, one in enumerate(engaged)]
    heapq.heapify(ends)
    idle: list[Engaged] = []
    number = len(ends)
    while ends and job_id in waiting:
        now, _, worker = heapq.heappop(ends)
        for team_id in worker.team_ids & teams.keys():
            teams[team_id] = teams[team_id].without(worker.card)
        idle.append(worker)
        for free in tuple(idle):
            job = _next(snapshot, waiting, teams, free.card, now)
            if job is None:
                continue
            if job.job_id == job_id:
                return now
            idle.remove(free)
            del waiting[job.job_id]
            use = teams.get(job.team_id, TeamUse())
            teams[job.team_id] = replace(
                use,
                gpus=use.gpus + 1,
                memory_bytes=use.memory_bytes + (free.card.memory_bytes or 0),
                served_seconds_ago=-now,
            )
            number += 1
            card = replace(free.card, resident=frozenset({job.base_id}))
            seconds = max(_LEAST_SECONDS, durations[job.job_id])
            heapq.heappush(ends, (now + seconds, number, Engaged(card, now + seconds, frozenset({job.team_id}))))
    return None


def _next(
    snapshot: Snapshot,
    waiting: Mapping[str, WaitingJob],
    teams: Mapping[str, TeamUse],
    card: Card,
    now: float,
) -> WaitingJob | None:
    """What this worker takes then."""
    older = tuple(replace(job, waited_seconds=job.waited_seconds + now) for job in waiting.values())
    choice = choose(replace(snapshot, waiting=older, teams=teams, worker=card))
    return None if choice is None else choice.job
