"""How the time of a GPU is shared out among the jobs that rode on it together: by the tokens each trained. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Part:
    """One job's part of a stretch of time that is not shared out yet."""

    since: float
    """Seconds; when it joined, or up to when it has been counted."""
    tokens: float
    """That it trained since then."""


def shared_seconds(parts: Sequence[Part], until: float) -> list[float]:
    """Seconds for each of the parts. Together they are exactly the time in which at least one of them was there.

    Between two moments at which somebody joined, those present share the time by the tokens they train a second; where
    nobody trained anything (all load, or are evaluated), in equal parts.
    """
    found = [0.0] * len(parts)
    moments = sorted({min(part.since, until) for part in parts} | {until})
    for start, end in pairwise(moments):
        there = [index for index, part in enumerate(parts) if part.since <= start]
        paces = {index: parts[index].tokens / (until - parts[index].since) for index in there}
        total = sum(paces.values())
        for index in there:
            found[index] += (end - start) * (paces[index] / total if total > 0 else 1 / len(there))
    return found
