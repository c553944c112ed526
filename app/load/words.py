"""A load run in plain words: how long people wait, what tuning changed, what it costs, what to mind."""

from app.load.cost import Cost
from app.load.figures import ModelFigures, Rise
from app.load.report import LoadReport, Verdict, verdict_of

# A p99 of fewer requests is about the slowest of them.
ENOUGH_FOR_P99 = 100
_MANY_LEFT, _GROWTH = 0.25, 1.5
_LATE_SECONDS, _LATE_SHARE = 0.01, 0.05

_VERDICTS: dict[Verdict, str] = {
    "slower": "slower",
    "faster": "faster",
    "no_difference_shown": "no difference shown",
    "too_few_turns": "too few turns to tell it from other work on the machine",
}


def summary(report: LoadReport) -> str:
    """One paragraph: the last model first, the base beside it, then cost and cautions."""
    model, figures = list(report.models.items())[-1]
    sentences = [_waiting(report, model, figures), _difference(report), _good(figures), _cost(report, model)]
    sentences += [caution for name, found in report.models.items() for caution in _cautions(report, name, found)]
    return " ".join(sentence for sentence in sentences if sentence)


def assumptions(cost: Cost) -> str:
    """What the cost figures rest on."""
    return (
        f"Cost: {cost.price_per_hour:g} per machine-hour, one machine, as many answers as in this run in "
        f"{cost.utilisation:.0%} of the hours paid and none in the rest. A run below what the machine can bear makes "
        "answers look dearer than they could be."
    )


def _waiting(report: LoadReport, model: str, figures: ModelFigures) -> str:
    load = f"At {report.plan.rate_per_second:g} requests a second"
    whole, first = figures.times["request.duration"], figures.times["time_to_first_token"]
    if whole is None or first is None:
        return f"{load}, {model} answered none of {figures.requests} requests: {figures.first_error}."
    return (
        f"{load}, {model} answered half of the requests within {_ms(whole.p50)} and 95 of 100 within {_ms(whole.p95)}; "
        f"their first tokens came within {_ms(first.p50)} and {_ms(first.p95)}."
    )


def _difference(report: LoadReport) -> str:
    rise = report.rises.get("request.duration")
    if rise is None:
        return ""
    base, other = report.models.values()
    higher = sum(turn is not None and turn > 0 for turn in rise.by_turn)
    turns = f"higher in {higher} of {len(rise.by_turn)} turns"
    said = f"Its p95 is {rise_text(rise)} against {report.plan.models[0]}, {turns}: {_VERDICTS[verdict_of(rise)]}."
    if base.answer_lengths is None or other.answer_lengths is None:
        return said
    lengths = f"{other.answer_lengths.mean:.0f} tokens on average, the base's {base.answer_lengths.mean:.0f}"
    return f"{said} Its answers have {lengths}."


def rise_text(rise: Rise) -> str:
    """`+8 % [-3, +20]`."""
    return f"{100 * rise.share:+.0f} % [{100 * rise.interval.low:+.0f}, {100 * rise.interval.high:+.0f}]"


def _good(figures: ModelFigures) -> str:
    found = figures.goodput
    return "" if found is None else f"{found.share:.0%} of the requests kept the stated limits."


def _cost(report: LoadReport, model: str) -> str:
    cost = report.costs.get(model)
    return "" if cost is None else f"1,000 requests cost {cost.per_1000_requests:.4g}."


def _cautions(report: LoadReport, model: str, figures: ModelFigures) -> list[str]:
    found = []
    if figures.failed:
        found.append(f"Of {figures.requests} requests to {model}, {figures.failed} failed: {figures.first_error}.")
    reached = figures.concurrency
    if reached.left > _MANY_LEFT * figures.requests and reached.left >= _GROWTH * reached.left_halfway:
        found.append(
            f"{model} did not keep up: {reached.left} of {figures.requests} requests were unanswered when the last one "
            f"came, {reached.left_halfway} halfway. Its times grow with the length of the run; take a lower --rate."
        )
    first = figures.times["time_to_first_token"]
    if first is not None and figures.sent_late_p99_seconds > max(_LATE_SECONDS, _LATE_SHARE * first.p50):
        found.append(
            f"This program itself was up to {_ms(figures.sent_late_p99_seconds)} late in asking {model}, which is in "
            "the times; run it on another machine."
        )
    if model == report.plan.models[-1] and figures.requests < ENOUGH_FOR_P99:
        found.append(
            f"The p99 of {figures.requests} requests is about their slowest; take --requests {ENOUGH_FOR_P99}."
        )
    return found


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:,.0f} ms"
