"""The pool at one moment: who waits, what teams have and may have, which workers there are."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

AGING_SECONDS = 3600.0
"""So long a job waits until it counts as one priority higher."""
_EXACT = 1024.0


@dataclass(frozen=True, slots=True)
class Needs:
    """What a job cannot do without, as far as that is known before it runs; a device with less is not tried."""

    memory_bytes: int | None = None
    compute_capability: int | None = None
    """80 for 8.0; None: any device, a CPU too."""


@dataclass(frozen=True, slots=True)
class Card:
    """What a worker offers. None: it has not said, and is trusted with everything."""

    memory_bytes: int | None = None
    compute_capability: int | None = None
    """None: no GPU of CUDA, or not said."""
    bases: frozenset[str] | None = None
    """Folders of bases on its disk."""
    resident: frozenset[str] = frozenset()
    """Ids of the base its engine holds in memory."""
    gpus: int = 1


@dataclass(frozen=True, slots=True)
class WaitingJob:
    """A job that could start now if a GPU were free."""

    job_id: str
    team_id: str
    priority: int
    waited_seconds: float
    base_id: str = ""
    needs: Needs = Needs()
    overtaken: int = 0
    """Times a worker took a job of the base it held first."""
    rank: int = 0
    """Jobs of its own team that come before it."""

    @property
    def level(self) -> float:
        """Its priority, raised by waiting."""
        return self.priority + self.waited_seconds // AGING_SECONDS

    @property
    def key(self) -> tuple[float, float, str]:
        """Smallest first within a team: by level, then by age."""
        return (-self.level, -self.waited_seconds, self.job_id)


@dataclass(frozen=True, slots=True)
class TeamUse:
    """What a team has of the pool, and what it may have."""

    gpus: int = 0
    """In use: workers on which a job of the team runs, however many ride there and whoever else does."""
    memory_bytes: int = 0
    """Of the devices in use, as far as known."""
    weight: float = 1.0
    max_gpus: int | None = None
    served_seconds_ago: float = float("inf")
    """Since a job of the team last got a GPU; infinite if never."""
    waiting: int = 0
    """Its jobs that could start now."""

    def has_room(self, more: int = 0) -> bool:
        """Whether its quota lets it take another GPU on top of `more`."""
        return self.max_gpus is None or self.gpus + more < self.max_gpus

    def without(self, card: "Card") -> "TeamUse":
        """After it has left this worker."""
        memory = max(0, self.memory_bytes - (card.memory_bytes or 0))
        return replace(self, gpus=max(0, self.gpus - 1), memory_bytes=memory)


_NOTHING = TeamUse()


@dataclass(frozen=True, slots=True)
class Capacity:
    """Of all workers that live; a device that has not said its memory counts in `gpus` alone."""

    gpus: int = 0
    memory_bytes: int = 0


@dataclass(frozen=True)
class Snapshot:
    """A team without an entry has nothing and waits for nothing.

    `waiting` may be a trimmed list, as the repository loads it: of each team the first job that fits the worker, and
    the first of them whose base it holds. `pick` decides the same by it as by all jobs.
    """

    waiting: tuple[WaitingJob, ...]
    teams: Mapping[str, TeamUse]
    capacity: Capacity = Capacity()
    worker: Card | None = None
    """That is free and asks; None: any."""
    cards: tuple[Card, ...] = field(default=())
    """All workers that live and are not drained, for explanations."""

    def use(self, team_id: str) -> TeamUse:
        return self.teams.get(team_id, _NOTHING)


def fits(job: WaitingJob, card: Card | None) -> bool:
    """Whether the job can run there, as far as one can know before it does."""
    if card is None:
        return True
    needs = job.needs
    if card.bases is not None and job.base_id not in card.bases:
        return False
    if needs.memory_bytes is not None and card.memory_bytes is not None and needs.memory_bytes > card.memory_bytes:
        return False
    # A card that has said its memory has said all: without a capability it is no GPU.
    return needs.compute_capability is None or (
        card.memory_bytes is None
        if card.compute_capability is None
        else card.compute_capability >= needs.compute_capability
    )


def share(use: TeamUse, capacity: Capacity, more: float = 0.0) -> float:
    """The team's weighted dominant share, in GPUs; the least comes first.

    Dominant Resource Fairness (Ghodsi et al., NSDI 2011) over GPUs and the memory of the devices in use; `more` GPUs of
    mean size are added. It is in units of one GPU of the pool, and memory is rounded to 1/1024 of one, so that equal
    shares are equal numbers.
    """
    return (dominant_gpus(use, capacity) + more) / use.weight


def dominant_gpus(use: TeamUse, capacity: Capacity) -> float:
    """GPUs in use, or the memory of their devices in GPUs of mean size if that is more."""
    if not capacity.memory_bytes:
        return float(use.gpus)
    by_memory = use.memory_bytes * capacity.gpus / capacity.memory_bytes
    return max(float(use.gpus), round(by_memory * _EXACT) / _EXACT)


def complete(
    waiting: tuple[WaitingJob, ...],
    teams: Mapping[str, TeamUse],
    *,
    capacity: Capacity = Capacity(),
    worker: Card | None = None,
    cards: tuple[Card, ...] = (),
) -> Snapshot:
    """A snapshot of all waiting jobs, with ranks and counts filled in."""
    counts: dict[str, int] = {}
    ranked = []
    for job in sorted(waiting, key=lambda one: one.key):
        rank = counts.get(job.team_id, 0)
        counts[job.team_id] = rank + 1
        ranked.append(replace(job, rank=rank))
    uses = {
        team_id: replace(teams.get(team_id, TeamUse()), waiting=counts.get(team_id, 0)) for team_id in {*teams, *counts}
    }
    return Snapshot(tuple(ranked), uses, capacity, worker, cards)
