"""95 % intervals: Wilson's for shares of rows, the BCa bootstrap for everything else."""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from workers.engine.evaluation.statistics.metric import Floats, Metric

CONFIDENCE = 0.95
RESAMPLES = 2000
_NORMAL = NormalDist()
_CHUNK_ROWS = 4_000_000  # weights held at once


@dataclass(frozen=True)
class Interval:
    """Between `low` and `high`, with the method that gave them."""

    low: float
    high: float
    method: str


def interval(metric: Metric, *, seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """The 95 % interval of a figure."""
    if metric.is_proportion:
        return wilson(round(float(metric.parts.sum())), metric.n)
    values = metric.value
    draws = np.concatenate([metric.resampled(w) for w in draw_weights(metric.n, seed=seed, resamples=resamples)])
    low, high = bca(draws, values, metric.without_each())
    return Interval(low, high, f"BCa bootstrap, {resamples} resamples, seed {seed}")


def wilson(hits: int, n: int, confidence: float = CONFIDENCE) -> Interval:
    """Wilson 1927's score interval of hits/n (doi 10.1080/01621459.1927.10502953). Raises ValueError for no rows."""
    if n < 1 or not 0 <= hits <= n:
        raise ValueError(f"{hits} hits in {n} rows")
    z = _NORMAL.inv_cdf(0.5 + confidence / 2)
    share, weight = hits / n, z * z / n
    centre = (share + weight / 2) / (1 + weight)
    half = z / (1 + weight) * math.sqrt(share * (1 - share) / n + weight / (4 * n))
    return Interval(
        0.0 if hits == 0 else max(0.0, centre - half), 1.0 if hits == n else min(1.0, centre + half), "Wilson"
    )


def draw_weights(n: int, *, seed: int, resamples: int = RESAMPLES) -> list[Floats]:
    """How often each row is drawn, [B, n] in chunks; the same for the same seed: two models share their resamples."""
    generator = np.random.default_rng(seed)
    chunk = max(1, _CHUNK_ROWS // n)
    weights = []
    for first in range(0, resamples, chunk):
        count = min(chunk, resamples - first)
        drawn = generator.integers(0, n, size=(count, n))
        drawn += np.arange(count)[:, None] * n
        weights.append(np.bincount(drawn.ravel(), minlength=count * n).reshape(count, n).astype(np.float64))
    return weights


def bca(draws: Floats, value: float, without_each: Floats, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Bias-corrected and accelerated interval (Efron 1987, doi 10.1080/01621459.1987.10478410).

    The plain value twice where no resample differs from it. Where the value lies outside of nearly all resamples (macro
    figures of labels that hardly occur), the correction would shrink the interval to a point: it then reaches from the
    value over the resamples' own quantiles.
    """
    if np.ptp(draws) == 0.0:
        return float(draws[0]), float(draws[0])
    share = (np.mean(draws < value) + np.mean(draws <= value)) / 2
    edge = 0.5 / len(draws)
    bias = _NORMAL.inv_cdf(float(np.clip(share, edge, 1 - edge)))
    deviations = without_each.mean() - without_each
    spread = float((deviations**2).sum()) ** 1.5
    acceleration = float((deviations**3).sum()) / (6 * spread) if spread else 0.0
    tail = (1 - confidence) / 2
    if abs(bias) > _NORMAL.inv_cdf(1 - tail):
        low, high = np.quantile(draws, (tail, 1 - tail))
        return min(float(low), value), max(float(high), value)
    levels = [_level(bias, acceleration, _NORMAL.inv_cdf(p)) for p in (tail, 1 - tail)]
    low, high = np.quantile(draws, np.clip(levels, 0.0, 1.0))
    return float(low), float(high)


def _level(bias: float, acceleration: float, z: float) -> float:
    shifted = bias + z
    return _NORMAL.cdf(bias + shifted / (1 - acceleration * shifted))
