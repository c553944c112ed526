"""From a text classifier's outputs to its answer: calibrated scores, an abstention, a set that holds the truth."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from app.contracts.errors import WorkerFailure, usage
from app.contracts.predictions import Labels, LabelScore, PredictSpec, ScoreFunction
from app.contracts.specs import LabelCalibration
from workers.engine.recipes.text_classification import TextClassification

_SCORES: dict[ScoreFunction, Callable[[Tensor], Tensor]] = {
    "softmax": lambda logits: logits.softmax(1),
    "sigmoid": lambda logits: logits.sigmoid(),
    "none": lambda logits: logits,
}


@dataclass(frozen=True)
class LabelRule:
    """What a request wants of a text classifier's answer; the fields of `PredictSpec`."""

    function: ScoreFunction | None = None
    min_confidence: float | None = None
    max_risk: float | None = None
    returns_set: bool = False

    @property
    def needs_probabilities(self) -> bool:
        return self.returns_set or self.min_confidence is not None or self.max_risk is not None


PLAIN = LabelRule()


def rule_of(spec: PredictSpec) -> LabelRule:
    return LabelRule(spec.function, spec.min_confidence, spec.max_risk, spec.returns_set)


class Answering:
    """A rule as one adapter can follow it. Usage failures, with the field in `param`, for what it cannot."""

    def __init__(self, classifier: TextClassification, calibration: LabelCalibration | None, rule: LabelRule) -> None:
        self._classifier = classifier
        self._function = rule.function or ("sigmoid" if classifier.is_multi_label else "softmax")
        if rule.needs_probabilities and (classifier.is_multi_label or self._function != "softmax"):
            raise usage(
                "no_probabilities",
                "min_confidence, max_risk and return_set need probabilities of labels that exclude each other: a model "
                "with one label a text, and softmax as function_to_apply.",
                param="parameters.function_to_apply",
            )
        is_softmax = self._function == "softmax"
        self.temperature = (calibration.temperature if calibration else 1.0) if is_softmax else None
        self.min_confidence = rule.min_confidence
        if rule.max_risk is not None:
            self.min_confidence = max(rule.min_confidence or 0.0, _confidence_of(rule.max_risk, calibration))
        self._set_from = _set_threshold(calibration) if rule.returns_set else None

    def labels(self, logits: Tensor) -> list[Labels]:
        """Logits [texts, labels] as labels with scores, most likely first."""
        scores = _SCORES[self._function](logits / (self.temperature or 1.0))
        orders = logits.sort(dim=1, descending=True, stable=True).indices
        rows = zip(orders.tolist(), logits.tolist(), scores.tolist(), strict=True)
        return [self._answer(order, row, values) for order, row, values in rows]

    def _answer(self, order: list[int], logits: list[float], scores: list[float]) -> Labels:
        labels = self._classifier.labels
        abstains = self.min_confidence is not None and scores[order[0]] < self.min_confidence
        if self._classifier.is_multi_label:
            chosen = [place for place in order if logits[place] > 0]  # a probability above one half
        else:
            chosen = [] if abstains else order[:1]
        joined = None if self._set_from is None else [place for place in order if scores[place] >= self._set_from]
        return Labels(
            scores=tuple(LabelScore(label=labels[place], score=scores[place]) for place in order),
            chosen=tuple(labels[place] for place in chosen),
            abstained=abstains,
            conformal_set=None if joined is None else tuple(labels[place] for place in joined),
        )


def _confidence_of(max_risk: float, calibration: LabelCalibration | None) -> float:
    """The confidence from which on the most rows are answered with a risk shown to be below `max_risk`."""
    if calibration is None:
        raise _not_calibrated("max_risk")
    shown = [point for point in calibration.abstention if point.risk_bound <= max_risk]
    if not shown:
        least = min(point.risk_bound for point in calibration.abstention)
        raise usage(
            "risk_not_shown",
            f"The {calibration.rows} rows this model was calibrated on show no risk of at most {max_risk:g}: the least "
            f"they show is {least:.3f}. Ask for that or more, or name min_confidence yourself.",
            param="parameters.max_risk",
        )
    return max(shown, key=lambda point: point.answered).min_confidence


def _set_threshold(calibration: LabelCalibration | None) -> float:
    if calibration is None:
        raise _not_calibrated("return_set")
    return calibration.conformal_threshold


def _not_calibrated(param: str) -> WorkerFailure:
    return usage(
        "not_calibrated",
        f"{param} needs a calibrated model, and nothing was stored with this one: it is older, its job had too few "
        "rows to split some off (100 are enough), or it is no checkpoint of an epoch's end. Train it again, or use "
        "min_confidence, which works on its plain softmax.",
        param=f"parameters.{param}",
    )
