"""What an evaluation finds: figures with intervals, models compared on the same rows, and what may be said of it."""

from typing import Literal

from pydantic import Field

from app.contracts.base import Contract

Verdict = Literal["better", "worse", "no_difference_shown", "too_little_data"]


class Figure(Contract):
    """One figure of one model: never without its interval, its rows and its signature."""

    name: str = Field(description="e.g. accuracy, macro_f1, span_f1, rouge_l, loss")
    value: float
    low: float = Field(description="lower end of the 95 % interval")
    high: float
    n: int = Field(description="rows it stands on")
    higher_is_better: bool = True
    interval: str = Field(description="how the interval was made")
    signature: str = Field(description="what the value depends on; figures of different signatures cannot be compared")


class FigureComparison(Contract):
    """One figure of the tuned model minus that of another, on the same rows."""

    name: str
    against: str = Field(description="the base, a baseline, or another model's id")
    difference: float
    low: float = Field(description="lower end of the difference's 95 % interval")
    high: float
    p_value: float
    p_adjusted: float = Field(description="after Holm's correction over all figures of this comparison")
    verdict: Verdict
    smallest_detectable: float = Field(description="the difference these rows would show with a chance of 80 %")
    test: str
    n: int


class Baseline(Contract):
    """A cheap answer to the same task, scored on the same rows."""

    name: str
    description: str
    figures: tuple[Figure, ...]
    comparisons: tuple[FigureComparison, ...] = Field(description="the tuned model against it")


class Judgement(Contract):
    """What may be said of the tuned model beside the base, on the same rows, same templates, same decoding."""

    decides: str = Field(description="name of the figure that the verdict stands on")
    verdict: Verdict = Field(description="tuned against base by that figure")
    comparisons: tuple[FigureComparison, ...] = Field(
        description="tuned against base; p-values corrected over this list; the figure that decides comes first"
    )
    baselines: tuple[Baseline, ...] = ()
    baseline_better: tuple[str, ...] = Field(
        default=(), description="names of cheap baselines that are at least as good by the figure that decides"
    )


class Confusion(Contract):
    """How often each label was answered for each label; of many labels the most confused ones."""

    labels: tuple[str, ...] = Field(description="an empty last label: answers that are no label at all")
    counts: tuple[tuple[int, ...], ...] = Field(description="[expected][answered]")


class ClassFigures(Contract):
    """One label's precision, recall and F1."""

    label: str
    precision: float
    recall: float
    f1: float
    support: int


class SpanBreakdown(Contract):
    """What became of the entities when near misses count in one of four ways."""

    scheme: Literal["strict", "exact", "partial", "type"] = Field(
        description="start, end and label; start and end; the same with half a point for an overlap; overlap and label"
    )
    correct: int
    incorrect: int
    partial: int
    missed: int
    spurious: int
    precision: float
    recall: float
    f1: float


class CostDecisions(Contract):
    """How answers of least expected cost differ from the likeliest ones."""

    changed: float = Field(description="share of rows whose cheapest answer is not their likeliest label")
    abstained: float | None = Field(description="share of rows handed on; null: that has no price")
    likeliest_per_1000: float = Field(description="what a thousand likeliest answers would cost")


class ReliabilityBin(Contract):
    """Answers of about the same confidence."""

    low: float
    high: float
    n: int
    mean_confidence: float
    accuracy: float


class Calibration(Contract):
    """Whether the model is right as often as it is sure."""

    ece: float = Field(description="expected calibration error, 15 bins of equal width")
    brier: float
    temperature: float = Field(description="by which logits are divided; 1 as trained")
    ece_at_temperature: float
    brier_at_temperature: float
    fitted_on: str = Field(description="the rows that chose the temperature; never the held-out ones")
    bins: tuple[ReliabilityBin, ...]
    coverage: tuple[tuple[float, float], ...] = Field(
        description="(share of rows answered, accuracy among them), the surest first"
    )
    area_under_risk_coverage: float
    conformal_coverage: float | None = Field(
        default=None,
        description="share of the 90 % sets that hold the truth; None: the model has no threshold for them",
    )
    conformal_set_size: float | None = Field(default=None, description="labels in a set, on average")
