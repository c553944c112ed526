"""Quantiles of measured times, with intervals that assume nothing of their distribution."""

import math
from collections.abc import Sequence

from app.contracts.figures import Figure

_TAIL = 0.025


def quantile_bounds(values: Sequence[float], share: float) -> tuple[float, float] | None:
    """95 % interval of a quantile between two of the values (order statistics; David and Nagaraja 2003, section 7.1).

    None where there are too few: of the 95th percentile below 72.
    """
    n, ordered = len(values), sorted(values)
    below = 0.0
    cumulated = []
    for count in range(n + 1):
        below += math.comb(n, count) * share**count * (1 - share) ** (n - count)
        cumulated.append(below)
    low = next((count for count in range(n + 1) if cumulated[count] > _TAIL), 0)
    high = next((count for count in range(n) if cumulated[count] >= 1 - _TAIL), n)
    if low == 0 or high >= n:
        return None
    return ordered[low - 1], ordered[high]


def latency_figures(milliseconds: Sequence[float], *, signature: str) -> tuple[Figure, ...]:
    """Figures p50_ms and p95_ms of whole answers; each left out where too few were measured for an interval."""
    figures = []
    ordered = sorted(milliseconds)
    for name, share in (("p50_ms", 0.5), ("p95_ms", 0.95)):
        bounds = quantile_bounds(ordered, share)
        if bounds is None:
            continue
        place = (len(ordered) - 1) * share
        left = math.floor(place)
        right = min(left + 1, len(ordered) - 1)
        figures.append(
            Figure(
                name=name,
                value=ordered[left] + (ordered[right] - ordered[left]) * (place - left),
                low=bounds[0],
                high=bounds[1],
                n=len(ordered),
                higher_is_better=False,
                interval="order statistics",
                signature=signature,
            )
        )
    return tuple(figures)
