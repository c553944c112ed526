"""What mistakes cost: decisions of least expected cost, a threshold chosen on validation rows, money per decision."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from workers.engine.evaluation.metrics.signature import signature
from workers.engine.evaluation.statistics.metric import Floats, Metric

DECISIONS = 1000
_CURVE = np.linspace(0.0, 1.0, 101)
_NEWTON_STEPS = 50
_LONGEST_STEP = 5.0
_PRIOR = 0.05  # pull towards the scores being probabilities already
_FOLDS = 5

Labels = npt.NDArray[np.integer]


@dataclass(frozen=True)
class CostMatrix:
    """Money lost when a label is expected and another one is answered."""

    labels: tuple[str, ...]
    costs: Floats
    """[expected, answered]; one more column than labels: what it costs to answer nothing and hand the case on."""

    def __post_init__(self) -> None:
        count = len(self.labels)
        if self.costs.shape not in ((count, count), (count, count + 1)) or not np.isfinite(self.costs).all():
            raise ValueError(f"costs of {count} labels need {count} rows of {count} or {count + 1} finite amounts")

    @property
    def digest(self) -> str:
        """For signatures: the labels and every amount."""
        rows = ";".join(",".join(f"{cost:g}" for cost in row) for row in self.costs)
        return f"{','.join(self.labels)}/{rows}"


@dataclass(frozen=True)
class Threshold:
    """Answer yes from this probability on."""

    threshold: float
    cost: float
    """Per decision on the rows that chose it."""
    cost_at_half: float
    """The same with a threshold of 0.5."""
    curve: tuple[tuple[float, float], ...]
    """(threshold, cost per decision) from 0 to 1."""


def cheapest(probabilities: Floats, matrix: CostMatrix) -> npt.NDArray[np.intp]:
    """[n]: the answer of least expected cost of each row; the number of labels means: hand the case on."""
    return np.asarray((probabilities @ matrix.costs).argmin(1))


def cost_per_1000(truth: Labels, answered: Labels, matrix: CostMatrix) -> Metric:
    """`cost_per_1000_decisions`: money per thousand decisions.

    One whole of it, by which an effect is judged, is what the best answer that never looks at the text would cost.
    """
    parts = DECISIONS * matrix.costs[truth, answered].reshape(-1, 1)
    n = len(parts)
    blind = float(DECISIONS * matrix.costs[truth].mean(0).min())

    def of_sums(sums: Floats) -> Floats:
        return np.asarray(sums[..., 0] / n)

    return Metric(
        "cost_per_1000_decisions",
        signature(costs=matrix.digest, per=DECISIONS),
        parts,
        of_sums,
        higher_is_better=False,
        unit=blind or 1.0,
    )


def choose_threshold(scores: Floats, is_positive: Sequence[bool], *, missed: float, false: float) -> Threshold:
    """The cheapest threshold of one label against the rest, on validation rows (not those it will be judged on).

    `missed` is what a no costs where yes is right, `false` what a yes costs where no is. The lowest point of a measured
    cost curve is erratic (its error shrinks with n^(1/3) only), so the threshold comes from a logistic curve through
    the scores (Platt 1999) and the odds of Elkan 2001: yes where p > false / (missed + false). Where the curve does
    not fit, so that lowest points cost less on rows they were not chosen on, or where it costs more than 0.5 does, the
    lowest point is taken.
    Raises ValueError for costs that are not positive, no rows, or rows of one kind only.
    """
    scores = np.asarray(scores, dtype=np.float64)
    truth = np.asarray(is_positive, dtype=bool)
    if missed <= 0 or false <= 0:
        raise ValueError("both kinds of mistake need a cost above 0")
    if scores.shape != truth.shape or truth.all() or not truth.any():
        raise ValueError(f"a threshold needs rows of both kinds; {int(truth.sum())} of {len(truth)} are positive")

    def cost(threshold: float) -> float:
        return float(_costs(scores, truth, threshold, missed, false).mean())

    chosen = _logistic_point(scores, truth, missed, false)
    if not _is_logistic(scores, truth, missed, false) or cost(chosen) > cost(0.5):
        chosen = _lowest_point(scores, truth, missed, false)
    return Threshold(
        threshold=chosen,
        cost=cost(chosen),
        cost_at_half=cost(0.5),
        curve=tuple((float(t), cost(float(t))) for t in _CURVE),
    )


def _is_logistic(scores: Floats, truth: npt.NDArray[np.bool_], missed: float, false: float) -> bool:
    """No more than two standard errors speak for lowest points, on rows that neither threshold was chosen on."""
    excess = np.zeros(len(scores))
    # Folds of every fifth row by score: each has scores of all sizes, and nothing is drawn.
    folds = np.argsort(np.argsort(scores, kind="stable"), kind="stable") % _FOLDS
    for fold in range(_FOLDS):
        inside = folds == fold
        points = [choose(scores[~inside], truth[~inside], missed, false) for choose in (_logistic_point, _lowest_point)]
        smooth, lowest = (_costs(scores[inside], truth[inside], point, missed, false) for point in points)
        excess[inside] = smooth - lowest
    return bool(excess.mean() <= 2 * excess.std() / np.sqrt(len(excess)))


def _costs(scores: Floats, truth: npt.NDArray[np.bool_], threshold: float, missed: float, false: float) -> Floats:
    """[n]: what each row costs."""
    is_yes = scores >= threshold
    return np.where(truth, missed * ~is_yes, false * is_yes).astype(np.float64)


def _lowest_point(scores: Floats, truth: npt.NDArray[np.bool_], missed: float, false: float) -> float:
    """Half-way between the two scores around the cheapest cut; 0 to answer always yes, above 1 for never."""
    order = np.argsort(scores, kind="stable")
    ordered, positive = scores[order], truth[order]
    # Cut k: the k lowest scores are no.
    costs = np.concatenate([[0.0], np.where(positive, missed, -false).cumsum()]) + false * (~truth).sum()
    is_cut = np.concatenate([[True], ordered[1:] > ordered[:-1], [True]])
    cut = int(np.flatnonzero(is_cut)[costs[is_cut].argmin()])
    if cut in (0, len(ordered)):
        return 0.0 if cut == 0 else float(np.nextafter(max(1.0, ordered[-1]), 2.0))
    return float((ordered[cut - 1] + ordered[cut]) / 2)


def _logistic_point(scores: Floats, truth: npt.NDArray[np.bool_], missed: float, false: float) -> float:
    """The score where sigmoid(a + b * logit(score)) reaches false / (missed + false); a and b by Newton's method.

    A weak pull to a = 0, b = 1 keeps separable rows finite.
    """
    clipped = np.clip(scores, 1e-12, 1 - 1e-12)
    inputs = np.stack([np.ones_like(clipped), np.log(clipped / (1 - clipped))], axis=1)
    start = np.array([0.0, 1.0])
    weights = start
    for _ in range(_NEWTON_STEPS):
        found = 1 / (1 + np.exp(-np.clip(inputs @ weights, -30, 30)))
        slope = inputs.T @ (found - truth) + _PRIOR * (weights - start)
        bend = (inputs * (found * (1 - found))[:, None]).T @ inputs + _PRIOR * np.eye(2)
        step = np.linalg.solve(bend, slope)
        step *= min(1.0, _LONGEST_STEP / np.abs(step).max(initial=_LONGEST_STEP))
        weights = weights - step
        if np.abs(step).max() < 1e-9:
            break
    if weights[1] <= 0:  # higher scores mean no: no threshold of this form helps
        return 0.5
    logit = (np.log(false / missed) - weights[0]) / weights[1]
    return float(1 / (1 + np.exp(-np.clip(logit, -30, 30))))
