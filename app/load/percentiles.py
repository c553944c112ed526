"""Percentiles of times, and how sure one of them is."""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

RESAMPLES = 1000


@dataclass(frozen=True)
class Interval:
    """A 95 % interval."""

    low: float
    high: float


def percentile(values: Sequence[float], percent: float) -> float:
    """With linear interpolation (numpy's default). Raises ValueError for no values."""
    if not values:
        raise ValueError("percentile of no values")
    ordered = sorted(values)
    place = (len(ordered) - 1) * percent / 100
    low, high = math.floor(place), math.ceil(place)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def bootstrap(
    count: int, figure: Callable[[Sequence[int]], float | None], *, seed: int, resamples: int = RESAMPLES
) -> Interval | None:
    """The middle 95 % of `figure` over resampled places `0 … count - 1`; None where it has too few values.

    Requests that come after one another wait in the same queue, so runs of about the cube root of `count` neighbours
    are drawn together (Politis & Romano 1992, circular block bootstrap); drawn one by one they would look independent
    and the interval too narrow. The same seed and count draw the same places, so two models are compared in pairs.
    """
    if count < 2:
        return None
    draw = random.Random(seed)  # noqa: S311 - resampling, not a secret
    length = max(1, round(count ** (1 / 3)))
    found = []
    for _ in range(resamples):
        places: list[int] = []
        while len(places) < count:
            start = draw.randrange(count)
            places += [(start + step) % count for step in range(length)]
        value = figure(places[:count])
        if value is not None:
            found.append(value)
    # Resamples without one good request say nothing; an interval from the few that are left would mislead.
    if len(found) < resamples * 0.95:
        return None
    return Interval(percentile(found, 2.5), percentile(found, 97.5))
