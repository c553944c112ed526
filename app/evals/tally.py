"""Counts of a run, kept with it as items are done, and the shares they show."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

Outcome = Literal["passed", "failed", "errored"]
_Z = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True)
class TokensUsed:
    """What one question to a model cost."""

    model: str
    prompt_tokens: int
    completion_tokens: int


def empty(criteria: int) -> dict[str, Any]:
    """The tally of a run in which nothing is done, as it is stored."""
    return {**_zeros(), "criteria": [_zeros() for _ in range(criteria)], "models": {}}


def added(
    tally: dict[str, Any], outcome: Outcome, by_criterion: Sequence[Outcome], usage: Sequence[TokensUsed]
) -> dict[str, Any]:
    """A new tally with one more item."""
    models = {name: dict(used) for name, used in tally["models"].items()}
    for used in usage:
        entry = models.setdefault(used.model, {"invocation_count": 0, "prompt_tokens": 0, "completion_tokens": 0})
        entry["invocation_count"] += 1
        entry["prompt_tokens"] += used.prompt_tokens
        entry["completion_tokens"] += used.completion_tokens
    criteria = [dict(counts) for counts in tally["criteria"]]
    for counts, found in zip(criteria, by_criterion, strict=True):
        counts[found] += 1
    return {**tally, outcome: tally[outcome] + 1, "criteria": criteria, "models": models}


def done(tally: dict[str, Any]) -> int:
    return sum(tally[outcome] for outcome in ("passed", "failed", "errored"))


@dataclass(frozen=True)
class PassRate:
    """A share of rows with its 95 % interval."""

    share: float
    low: float
    high: float


def pass_rate(passed: int, judged: int) -> PassRate | None:
    """Wilson 1927's score interval (doi 10.1080/01621459.1927.10502953); None where nothing was judged."""
    if judged == 0:
        return None
    share, weight = passed / judged, _Z * _Z / judged
    centre = (share + weight / 2) / (1 + weight)
    half = _Z / (1 + weight) * math.sqrt(share * (1 - share) / judged + weight / (4 * judged))
    return PassRate(
        share,
        0.0 if passed == 0 else max(0.0, centre - half),
        1.0 if passed == judged else min(1.0, centre + half),
    )


def _zeros() -> dict[str, Any]:
    return {"passed": 0, "failed": 0, "errored": 0}
