"""Evaluations as an engine reports them, with figures of one's choice."""

from app.contracts.figures import (
    Baseline,
    Calibration,
    ClassFigures,
    Confusion,
    Figure,
    FigureComparison,
    Judgement,
    ReliabilityBin,
)
from app.contracts.reports import Evaluation, ExpectationOutcome, Latency, ModelScores, Sample
from app.contracts.requirements import Expectation


def figure(name="macro_f1", value=0.8, **changes):
    fields = {"low": value - 0.05, "high": value + 0.05, "n": 400, "interval": "BCa bootstrap", "signature": "s:1"}
    return Figure(name=name, value=value, **(fields | changes))


def comparison(name="macro_f1", difference=0.1, verdict="better", **changes):
    fields = {
        "against": "base",
        "low": difference - 0.05,
        "high": difference + 0.05,
        "p_value": 0.001,
        "p_adjusted": 0.002,
        "smallest_detectable": 0.04,
        "test": "approximate randomisation",
        "n": 400,
    }
    return FigureComparison(name=name, difference=difference, verdict=verdict, **(fields | changes))


def scores(value=0.8, *, classes=(), **changes):
    fields = {
        "loss": 0.5,
        "token_accuracy": 0.9,
        "supervised_tokens": 400,
        "figures": (figure(value=value),),
        "classes": classes,
        "latency": Latency(n=2, end_to_end_ms_p50=12, end_to_end_ms_p95=20, end_to_end_ms=(12.0, 20.0)),
        "evaluation_seconds": 1.0,
    }
    return ModelScores(**(fields | changes))


def weak_class(label="refund", f1=0.3, support=40):
    return ClassFigures(label=label, precision=f1, recall=f1, f1=f1, support=support)


def confused(*labels):
    return Confusion(labels=labels, counts=tuple(tuple(int(i == j) * 7 + 1 for j in labels) for i in labels))


def calibrated():
    bins = (ReliabilityBin(low=0.4, high=0.6, n=30, mean_confidence=0.5, accuracy=0.6),)
    return Calibration(
        ece=0.1,
        brier=0.3,
        temperature=0.7,
        ece_at_temperature=0.04,
        brier_at_temperature=0.28,
        fitted_on="77 rows that chose the checkpoint, not held out",
        bins=bins,
        coverage=((0.8, 0.95), (1.0, 0.8)),
        area_under_risk_coverage=0.05,
    )


def evaluation(verdict="better", difference=0.1, *, tuned=None, baseline_better=(), **changes):
    rival = Baseline(
        name="majority",
        description="always 'billing'",
        figures=(figure(value=0.1),),
        comparisons=(comparison(difference=0.7, against="majority"),),
    )
    judgement = Judgement(
        decides="macro_f1",
        verdict=verdict,
        comparisons=(comparison(difference=difference, verdict=verdict),),
        baselines=(rival,),
        baseline_better=baseline_better,
    )
    fields = {
        "run_id": "run-1",
        "rows": 400,
        "labels": None,
        "base": scores(0.7),
        "tuned": tuned or scores(),
        "judgement": judgement,
        "samples": (Sample(line=1, prompt="<b>my parcel</b>", expected="delivery", base="billing", tuned="delivery"),),
    }
    return Evaluation(**(fields | changes))


def outcome(*, passed=True, base_passed=False):
    return ExpectationOutcome(
        expectation=Expectation(input="Where is my parcel?", kind="equals", value="delivery"),
        base="delivery" if base_passed else "billing",
        base_passed=base_passed,
        tuned="delivery" if passed else "refund",
        passed=passed,
        sentence="" if passed else "The answer is not 'delivery'.",
    )
