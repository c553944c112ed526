"""From figures to what may be said of two models: intervals, paired comparisons, the verdict, cheap baselines."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.contracts.figures import Baseline, Figure, FigureComparison, Judgement
from workers.engine.evaluation.statistics.intervals import interval
from workers.engine.evaluation.statistics.metric import Metric
from workers.engine.evaluation.statistics.paired import compare

_BASE = "base"


@dataclass(frozen=True)
class Rival:
    """A cheap answer to the same task, judged on the same rows."""

    name: str
    description: str
    metrics: Sequence[Metric]
    lacks: Sequence[str] = ()
    """Figures that such an answer cannot have."""


def figures(metrics: Sequence[Metric], *, seed: int) -> tuple[Figure, ...]:
    """Each with its 95 % interval."""
    found = []
    for metric in metrics:
        bounds = interval(metric, seed=seed)
        found.append(
            Figure(
                name=metric.name,
                value=metric.value,
                low=bounds.low,
                high=bounds.high,
                n=metric.n,
                higher_is_better=metric.higher_is_better,
                interval=bounds.method,
                signature=metric.signature,
            )
        )
    return tuple(found)


def judge(
    base: Sequence[Metric],
    tuned: Sequence[Metric],
    *,
    decides: str,
    beside: Sequence[str] = (),
    rivals: Sequence[Rival] = (),
    base_is_cheap: str | None = None,
    base_name: str | None = None,
    seed: int,
) -> Judgement:
    """Tuned against base by the figure `decides` and those `beside` it, and against each rival by the same.

    `base_is_cheap` names the base as a baseline, where it is one; `base_name` what stands in its place. Raises KeyError
    for a figure that is not there.
    """
    names = (decides, *beside)
    comparisons = _compare(base, tuned, names, base_name or _BASE, seed)
    baselines = tuple(
        Baseline(
            name=rival.name,
            description=rival.description,
            figures=figures([_named(rival.metrics, name) for name in shared], seed=seed),
            comparisons=_compare(rival.metrics, tuned, shared, rival.name, seed),
        )
        for rival in rivals
        if (shared := [name for name in names if name not in rival.lacks])
    )
    cheap = [one.comparisons[0] for one in baselines]
    if base_is_cheap is not None:
        cheap.append(comparisons[0].model_copy(update={"against": base_is_cheap}))
    sign = 1 if _named(tuned, decides).higher_is_better else -1
    return Judgement(
        decides=decides,
        verdict=comparisons[0].verdict,
        comparisons=comparisons,
        baselines=baselines,
        baseline_better=tuple(one.against for one in cheap if sign * one.difference <= 0),
    )


def _compare(
    first: Sequence[Metric], second: Sequence[Metric], names: Sequence[str], against: str, seed: int
) -> tuple[FigureComparison, ...]:
    pairs = [(_named(first, name), _named(second, name)) for name in names]
    return tuple(
        FigureComparison(
            name=found.metric,
            against=against,
            difference=found.difference,
            low=found.low,
            high=found.high,
            p_value=found.p_value,
            p_adjusted=found.p_adjusted,
            verdict=found.verdict,
            smallest_detectable=found.smallest_detectable,
            test=found.test,
            n=found.n,
        )
        for found in compare(pairs, seed=seed)
    )


def _named(metrics: Sequence[Metric], name: str) -> Metric:
    return {metric.name: metric for metric in metrics}[name]
