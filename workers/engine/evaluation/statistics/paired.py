"""Two models on the same rows: the difference, its interval, whether it is more than chance, and a verdict.

Rows are pairs, so what makes a row easy or hard for both drops out. Shares of rows are compared by McNemar's exact
test, all other figures by approximate randomisation; Holm's correction keeps the chance of any false claim at 5 %.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from workers.engine.evaluation.statistics.intervals import RESAMPLES, bca, draw_weights
from workers.engine.evaluation.statistics.metric import Floats, Metric

Verdict = Literal["better", "worse", "no_difference_shown", "too_little_data"]
LEVEL = 0.05
_Z_LEVEL, _Z_POWER = 1.959964, 0.841621  # two-sided 5 %, power 80 %
RELEVANT = 0.05
"""An effect of this share of a figure's unit matters: what could not be seen of it is too little data."""


@dataclass(frozen=True)
class Comparison:
    """One figure of model B minus that of model A on the same rows, in the figure's own unit."""

    metric: str
    difference: float
    low: float
    high: float
    p_value: float
    p_adjusted: float
    verdict: Verdict
    smallest_detectable: float
    """The difference that this many rows would show with a chance of 80 %."""
    test: str
    n: int


def compare(pairs: Sequence[tuple[Metric, Metric]], *, seed: int = 0, relevant: float = RELEVANT) -> list[Comparison]:
    """Each (A, B) of one family of figures. Raises ValueError where the two are not one figure of the same rows."""
    found = [_compare(first, second, seed) for first, second in pairs]
    adjusted = holm([one.p_value for one in found])
    return [
        Comparison(
            metric=first.name,
            difference=one.difference,
            low=one.low,
            high=one.high,
            p_value=one.p_value,
            p_adjusted=p,
            verdict=_verdict(first, one, p, relevant),
            smallest_detectable=one.smallest_detectable,
            test=one.test,
            n=first.n,
        )
        for (first, _), one, p in zip(pairs, found, adjusted, strict=True)
    ]


@dataclass(frozen=True)
class _Found:
    difference: float
    low: float
    high: float
    p_value: float
    smallest_detectable: float
    test: str


def _compare(first: Metric, second: Metric, seed: int) -> _Found:
    if (first.name, first.signature, first.n) != (second.name, second.signature, second.n):
        raise ValueError(
            f"{first.name} ({first.signature}, {first.n} rows) and {second.name} ({second.signature}, {second.n} rows) "
            "cannot be compared"
        )
    difference = second.value - first.value
    weights = draw_weights(first.n, seed=seed)
    draws = np.concatenate([second.resampled(w) - first.resampled(w) for w in weights])
    low, high = bca(draws, difference, second.without_each() - first.without_each())
    if first.is_proportion:
        won = int(((second.parts > 0) & (first.parts <= 0)).sum())
        lost = int(((second.parts <= 0) & (first.parts > 0)).sum())
        p_value, test = mcnemar(won, lost), "McNemar, exact"
        smallest_detectable = _smallest_share(won + lost, first.n)
    else:
        p_value = randomisation(first, second, seed=seed)
        smallest_detectable = (_Z_LEVEL + _Z_POWER) * float(draws.std())
        test = f"approximate randomisation, {RESAMPLES} swaps, seed {seed}"
    return _Found(difference, low, high, p_value, smallest_detectable, test)


def _smallest_share(discordant: int, n: int) -> float:
    """The difference of two shares that McNemar's exact test shows with a chance of 80 % (Connor 1987, jstor 2531961).

    With d discordant rows in n: n delta = z_level sqrt(n d) + z_power sqrt(n (d - delta^2)), and one row more, since
    the exact test's limit is the next whole row above the normal one.
    """
    # No row that differs says little about how often rows would: the rule of three.
    rate = min(1.0, (discordant or 3) / n)
    found = 0.0
    for _ in range(20):
        spread = math.sqrt(n * max(0.0, rate - found**2))
        found = min(1.0, (_Z_LEVEL * math.sqrt(n * rate) + _Z_POWER * spread + 1) / n)
    return found


def mcnemar(won: int, lost: int) -> float:
    """Two-sided exact p of McNemar 1947's test (doi 10.1007/BF02295996): each discordant row is a fair coin."""
    n = won + lost
    ways = tail = 1
    for k in range(min(won, lost)):
        ways = ways * (n - k) // (k + 1)
        tail += ways
    return min(1.0, 2 * tail / (1 << n))


def randomisation(first: Metric, second: Metric, *, seed: int, swaps: int = RESAMPLES) -> float:
    """Two-sided p of approximate randomisation (Noreen 1989): each row's two results are exchanged at random.

    As sacrebleu's; (c + 1) / (swaps + 1), where c swaps differ at least as much as was found.
    """
    generator = np.random.default_rng(seed + 1)
    change: Floats = second.parts - first.parts
    sums = first.parts.sum(0), second.parts.sum(0)
    found = abs(second.value - first.value)
    as_large = 0
    chunk = max(1, 4_000_000 // first.n)
    for start in range(0, swaps, chunk):
        count = min(chunk, swaps - start)
        moved = generator.integers(0, 2, size=(count, first.n)).astype(np.float64) @ change
        differences = second.of_sums(sums[1] - moved) - first.of_sums(sums[0] + moved)
        as_large += int((np.abs(differences) >= found - 1e-12).sum())
    return (as_large + 1) / (swaps + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm 1979's step-down adjusted p-values (jstor 4615733), in the order given."""
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


def _verdict(metric: Metric, found: _Found, p: float, relevant: float) -> Verdict:
    """The verdict "no difference shown" only where a relevant one would have been seen."""
    if p < LEVEL:
        return "better" if (found.difference > 0) == metric.higher_is_better else "worse"
    return "no_difference_shown" if found.smallest_detectable <= relevant * metric.unit else "too_little_data"
