"""How much more rows would bring, before the first step: a power law through the accuracy of probes on fewer rows.

Error falls as a + b * n^-c with the rows n (Cortes et al. 1993; Hestness et al. 2017, arXiv 1712.00409). Points come
from logistic regressions on the frozen base's features, judged on rows that none of them has seen: what such a curve
says of rows and labels holds for the tuned model too, whose level is another one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from app.contracts.reports import LearningCurve
from workers.engine.recipes.head import fit_probe, probe_logits

SHARES = (0.125, 0.25, 0.5, 1.0)
_FOLDS = 5
_LEAST_ROWS, _LEAST_ROWS_A_LABEL = 100, 8
_MOST_ROWS = 50_000
_FLOORS = np.linspace(0.0, 1.0, 41)
"""Shares of the least error seen that may stay whatever comes."""
_POINT = 0.01
_MOST_FACTOR = 10.0
"""Further than ten times the rows nothing is foretold."""


@dataclass(frozen=True)
class PowerLaw:
    """error(n) = floor + scale * n^-exponent."""

    floor: float
    scale: float
    exponent: float

    def error(self, rows: float) -> float:
        return float(min(1.0, self.floor + self.scale * rows**-self.exponent))


def learning_curve(features: Tensor, targets: Tensor, labels: int, *, poll: Callable[[], None]) -> LearningCurve | None:
    """None where there are too few rows to tell, or so many that it would take minutes.

    features [n, hidden], targets [n].
    """
    n = len(targets)
    if not max(_LEAST_ROWS, _LEAST_ROWS_A_LABEL * labels) <= n <= _MOST_ROWS:
        return None
    # Rows in an order that has nothing to do with the file's; a fifth judges, nested parts of the others train.
    order = torch.randperm(n, generator=torch.Generator().manual_seed(0)).to(features.device)
    judged, rest = order[: n // _FOLDS], order[n // _FOLDS :]
    points = []
    for share in SHARES:
        poll()
        part = rest[: max(2, round(share * len(rest)))]
        probe = fit_probe(features[part], targets[part], labels, poll=poll)
        right = probe_logits(probe, features[judged]).argmax(1) == targets[judged]
        points.append((len(part), float(right.float().mean())))
    return LearningCurve(points=tuple(points), judged_rows=len(judged), rows_for_a_point=rows_for_a_point(points, n))


def rows_for_a_point(points: Sequence[tuple[int, float]], rows: int) -> int | None:
    """Rows beyond `rows` that would add one point of accuracy by the curve through `points`."""
    law = fit_power_law(points)
    wanted = law.error(rows) - _POINT
    if wanted <= law.floor or law.exponent <= 0:
        return None
    needed = (law.scale / (wanted - law.floor)) ** (1 / law.exponent)
    return None if needed > _MOST_FACTOR * rows else int(np.ceil(needed - rows))


def fit_power_law(points: Sequence[tuple[int, float]]) -> PowerLaw:
    """Through (rows, accuracy), at least two of them: least squares of the logarithms, for each of some floors."""
    rows = np.log([count for count, _ in points])
    errors = np.maximum([1 - accuracy for _, accuracy in points], 1e-4)
    best, best_cost = PowerLaw(0.0, float(errors[-1]), 0.0), np.inf
    for floor in _FLOORS[:-1] * errors.min():
        above = np.log(errors - floor)
        slope, start = np.polyfit(rows, above, 1)
        law = PowerLaw(float(floor), float(np.exp(start)), float(max(0.0, -slope)))
        cost = float(np.square(np.log([law.error(count) for count, _ in points]) - np.log(errors)).sum())
        if cost < best_cost:
            best, best_cost = law, cost
    return best
