"""Whether a classifier is right as often as it is sure; pure functions on probabilities [n, C] and truth [n]."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from app.contracts.figures import Calibration, ReliabilityBin
from app.contracts.specs import AbstentionPoint, LabelCalibration
from workers.engine.evaluation.statistics.metric import Floats

BINS = 15
CONFORMAL_COVERAGE = 0.9
_LOWEST, _HIGHEST = np.log(0.05), np.log(20.0)
_CURVE_POINTS = 20
_PRIOR = 1.0  # weight of the pull to T = 1, in rows or so
_SUREST_WRONG = 0.05  # chance that any bound on the risk fails
_GOLDEN = (np.sqrt(5) - 1) / 2
_STEPS = 40  # of golden sections: the temperature to eight digits

Labels = npt.NDArray[np.integer]


@dataclass(frozen=True)
class Sureness:
    """Each row's answer, the likeliest label."""

    confidence: Floats
    """[n]: the probability of the answer."""
    is_right: npt.NDArray[np.bool_]
    """[n]."""


def softmax(logits: Floats, temperature: float = 1.0) -> Floats:
    """Probabilities [n, C] of logits divided by the temperature."""
    scaled = (logits - logits.max(1, keepdims=True)) / temperature
    weights = np.exp(scaled)
    return np.asarray(weights / weights.sum(1, keepdims=True))


def sureness(probabilities: Floats, truth: Labels) -> Sureness:
    """Raises ValueError for no rows, or truth of another length or outside the labels."""
    n, width = probabilities.shape
    if not n or truth.shape != (n,) or truth.min() < 0 or truth.max() >= width:
        raise ValueError(f"probabilities {probabilities.shape} do not fit truth {truth.shape} of {width} labels")
    return Sureness(probabilities.max(1), probabilities.argmax(1) == truth)


def reliability(sure: Sureness, bins: int = BINS) -> list[ReliabilityBin]:
    """Bins of equal width (low, high], those without rows left out; scikit-learn's `calibration_curve`."""
    edges = np.linspace(0.0, 1.0, bins + 1)
    places = np.searchsorted(edges[1:-1], sure.confidence)
    found = []
    for place in np.unique(places):
        inside = places == place
        found.append(
            ReliabilityBin(
                low=float(edges[place]),
                high=float(edges[place + 1]),
                n=int(inside.sum()),
                mean_confidence=float(sure.confidence[inside].mean()),
                accuracy=float(sure.is_right[inside].mean()),
            )
        )
    return found


def expected_calibration_error(sure: Sureness, bins: int = BINS) -> float:
    """Mean gap between confidence and accuracy over rows (Naeini et al. 2015, doi 10.1609/aaai.v29i1.9602)."""
    gaps = [one.n * abs(one.mean_confidence - one.accuracy) for one in reliability(sure, bins)]
    return sum(gaps) / len(sure.confidence)


def brier_score(probabilities: Floats, truth: Labels) -> float:
    """Mean squared distance from the truth over all labels, 0 … 2 (Brier 1950)."""
    wanted = np.zeros_like(probabilities)
    wanted[np.arange(len(truth)), truth] = 1.0
    return float(((probabilities - wanted) ** 2).sum(1).mean())


def negative_log_likelihood(logits: Floats, truth: Labels, temperature: float = 1.0) -> float:
    """Nats a row."""
    scaled = logits / temperature
    top = scaled.max(1)
    normaliser = top + np.log(np.exp(scaled - top[:, None]).sum(1))
    return float((normaliser - scaled[np.arange(len(truth)), truth]).mean())


def fit_temperature(logits: Floats, truth: Labels) -> float:
    """The temperature of least loss (Guo et al. 2017, arXiv 1706.04599), between 1/20 and 20, pulled a little to 1.

    Few rows that are all right would have T fall to 0 and every answer be certain: a gamma prior on 1/T with its mode
    at 1 holds against them, and hundreds of rows do not feel it. Loss and prior are convex in 1/T, hence have one
    valley in log T, where golden sections find it. A search for T itself without bounds can leave through T < 0.
    Raises ValueError as `sureness`.
    """
    sureness(logits, truth)

    def loss(log: float) -> float:
        inverse = float(np.exp(-log))
        return len(truth) * negative_log_likelihood(logits, truth, 1 / inverse) + _PRIOR * (inverse - 1 + log)

    return float(np.exp(_lowest(loss)))


def coverage_curve(sure: Sureness, points: int = _CURVE_POINTS) -> list[tuple[float, float]]:
    """(share of rows answered, accuracy among them), the surest first; at most `points` equal steps of coverage."""
    n = len(sure.confidence)
    right = sure.is_right[_surest_first(sure)].cumsum()
    answered = sorted({max(1, round(n * step / points)) for step in range(1, points + 1)})
    return [(count / n, float(right[count - 1] / count)) for count in answered]


def area_under_risk_coverage(sure: Sureness) -> float:
    """Mean error rate among the k surest rows over all k (Geifman et al. 2019, arXiv 1805.08206); lower is better."""
    wrong = (~sure.is_right[_surest_first(sure)]).cumsum()
    return float((wrong / np.arange(1, len(wrong) + 1)).mean())


def conformal_threshold(probabilities: Floats, truth: Labels, coverage: float = CONFORMAL_COVERAGE) -> float:
    """The probability from which on a label joins the answer set, so that `coverage` of the sets hold the truth.

    Split conformal prediction (Vovk et al. 2005; Sadinle et al. 2019, arXiv 1609.00451): chosen on rows that are
    neither trained on nor judged. 0 (every label) where the rows are too few for the promise. Raises as `sureness`.
    """
    sureness(probabilities, truth)
    n = len(truth)
    # The k-th smallest of 1 - p, k = ceil((n + 1) * coverage), is the (n + 1 - k)-th smallest p.
    place = n - int(np.ceil((n + 1) * coverage - 1e-9))
    return 0.0 if place < 0 else float(np.sort(probabilities[np.arange(n), truth])[place])


def abstention_points(sure: Sureness, points: int = _CURVE_POINTS) -> tuple[AbstentionPoint, ...]:
    """What answering only the surest rows costs and gains, at most `points` equal steps of coverage.

    The bounds are Clopper and Pearson's (1934, doi 10.1093/biomet/26.4.404), their chance of error shared by all points
    (Bonferroni), so that the best of them may be picked (as Geifman & El-Yaniv 2017, arXiv 1705.08500).
    """
    n = len(sure.confidence)
    surest = np.sort(sure.confidence)[::-1]
    found = {}
    for count in sorted({max(1, round(n * step / points)) for step in range(1, points + 1)}):
        inside = sure.confidence >= surest[count - 1]
        rows, wrong = int(inside.sum()), int((inside & ~sure.is_right).sum())
        found[float(surest[count - 1])] = AbstentionPoint(
            min_confidence=float(surest[count - 1]),
            answered=rows / n,
            risk=wrong / rows,
            risk_bound=upper_bound(wrong, rows, _SUREST_WRONG / points),
        )
    return tuple(found.values())


def upper_bound(wrong: int, rows: int, chance: float) -> float:
    """The share of errors that would yield `wrong` or fewer in `rows` with this chance; bisected to 1e-9."""
    if wrong == rows:
        return 1.0
    low, high = wrong / rows, 1.0
    logs = [math.lgamma(rows + 1) - math.lgamma(k + 1) - math.lgamma(rows - k + 1) for k in range(wrong + 1)]
    while high - low > 1e-9:
        share = (low + high) / 2
        tail = sum(math.exp(log + k * math.log(share) + (rows - k) * math.log1p(-share)) for k, log in enumerate(logs))
        low, high = (share, high) if tail > chance else (low, share)
    return high


def label_calibration(logits: Floats, truth: Labels) -> LabelCalibration:
    """All that goes with an adapter, from rows that are neither trained on nor judged. Raises as `sureness`."""
    temperature = fit_temperature(logits, truth)
    probabilities = softmax(logits, temperature)
    return LabelCalibration(
        temperature=temperature,
        conformal_threshold=conformal_threshold(probabilities, truth),
        conformal_coverage=CONFORMAL_COVERAGE,
        abstention=abstention_points(sureness(probabilities, truth)),
        rows=len(truth),
    )


def calibration(
    logits: Floats, truth: Labels, *, temperature: float, fitted_on: str, threshold: float | None = None
) -> Calibration:
    """All of it on held-out rows, before and after a temperature that other rows chose, as they chose the threshold.

    Raises as `sureness`.
    """
    plain, scaled = softmax(logits), softmax(logits, temperature)
    before, after = sureness(plain, truth), sureness(scaled, truth)
    sets = None if threshold is None else scaled >= threshold
    return Calibration(
        ece=expected_calibration_error(before),
        brier=brier_score(plain, truth),
        temperature=temperature,
        ece_at_temperature=expected_calibration_error(after),
        brier_at_temperature=brier_score(scaled, truth),
        fitted_on=fitted_on,
        bins=tuple(reliability(after)),
        coverage=tuple(coverage_curve(after)),
        area_under_risk_coverage=area_under_risk_coverage(after),
        conformal_coverage=None if sets is None else float(sets[np.arange(len(truth)), truth].mean()),
        conformal_set_size=None if sets is None else float(sets.sum(1).mean()),
    )


def _surest_first(sure: Sureness) -> npt.NDArray[np.intp]:
    return np.argsort(-sure.confidence, kind="stable")


def _lowest(loss: Callable[[float], float]) -> float:
    """Where a function with one valley between the bounds is lowest (golden-section search, Kiefer 1953)."""
    low, high = float(_LOWEST), float(_HIGHEST)
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = loss(left), loss(right)
    for _ in range(_STEPS):
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - _GOLDEN * (high - low)
            at_left = loss(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + _GOLDEN * (high - low)
            at_right = loss(right)
    return (low + high) / 2
