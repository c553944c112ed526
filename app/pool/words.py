"""Sentences about the pool, for people whose jobs wait."""

from collections.abc import Sequence

from app.pool.snapshot import Card, TeamUse, WaitingJob, fits


def count(number: int, noun: str) -> str:
    """`1 job`, `2 jobs`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def own_use(use: TeamUse) -> str:
    return f"Your team has {count(use.gpus, 'GPU')} in use."


def why_nowhere(job: WaitingJob, cards: Sequence[Card]) -> str | None:
    """Why no worker of the pool can run it; None if one can, or if no worker is known."""
    if not cards or any(fits(job, card) for card in cards):
        return None
    workers = "the pool's worker" if len(cards) == 1 else f"any of the pool's {len(cards)} workers"
    return f"The job does not fit {workers}: {_lacking(job, cards)}. It waits until a worker joins that it fits."


def _lacking(job: WaitingJob, cards: Sequence[Card]) -> str:
    """The first thing that no card has."""
    needs = job.needs
    if not any(card.bases is None or job.base_id in card.bases for card in cards):
        return f"no worker has the base '{job.base_id}' in its folder of bases"
    memory = [card.memory_bytes for card in cards if card.memory_bytes is not None]
    if needs.memory_bytes is not None and len(memory) == len(cards) and needs.memory_bytes > max(memory):
        largest = max(memory) / 1e9
        return f"it takes at least {needs.memory_bytes / 1e9:.1f} GB of memory and the largest has {largest:.1f} GB"
    if needs.compute_capability is not None:
        capability = f"{needs.compute_capability // 10}.{needs.compute_capability % 10}"
        capable = [card.compute_capability for card in cards if card.compute_capability is not None]
        if not capable or max(capable) < needs.compute_capability:
            return f"it needs a GPU of compute capability {capability} or newer"
    return "no worker has the memory, the GPU and the base that it needs all together"
