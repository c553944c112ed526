"""A load run as one report: the figures of each model, the difference, the cost; as plain data for JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from app.load.answer import Record
from app.load.cost import Cost, cost_of
from app.load.figures import TIMES, ModelFigures, Rise, Times, figures_of, p95_rise
from app.load.plan import Limits, LoadPlan

Verdict = Literal["slower", "faster", "no_difference_shown", "too_few_turns"]
# Models that are alike have the same sign in 3 turns once in 4 times, in 4 once in 8; the interval comes on top.
ENOUGH_TURNS = 3


@dataclass(frozen=True)
class Price:
    """What a machine-hour costs, and the share of the hours paid in which it is as busy as in the run."""

    per_hour: float
    utilisation: float = 1.0


@dataclass(frozen=True)
class LoadReport:
    """`models` and `costs` by model, in the plan's order: the base first. `rises` by the names of `TIMES`."""

    plan: LoadPlan
    limits: Limits
    models: dict[str, ModelFigures]
    costs: dict[str, Cost | None]
    rises: dict[str, Rise | None]


def report_of(
    plan: LoadPlan, records: Mapping[str, Sequence[Record]], *, limits: Limits, price: Price | None = None
) -> LoadReport:
    """`records` as `run_load` gives them. With two models, `rises` compares the second with the first."""
    models = {model: figures_of(records[model], limits, seed=plan.seed) for model in plan.models}
    costs = {} if price is None else {model: _cost(figures, price) for model, figures in models.items()}
    rises: dict[str, Rise | None] = {}
    if len(plan.models) == 2:
        base, other = (records[model] for model in plan.models)
        rises = {name: p95_rise(base, other, time, seed=plan.seed) for name, time in TIMES.items()}
    return LoadReport(plan, limits, models, costs, rises)


def _cost(figures: ModelFigures, price: Price) -> Cost | None:
    return cost_of(
        price_per_hour=price.per_hour,
        utilisation=price.utilisation,
        requests_per_second=figures.throughput.requests_per_second,
        answer_tokens_per_second=figures.throughput.answer_tokens_per_second,
        tokens_per_second=figures.throughput.tokens_per_second,
    )


def verdict_of(rise: Rise) -> Verdict:
    """A difference is one where its interval leaves 0 out and every turn points the same way."""
    if len(rise.by_turn) < ENOUGH_TURNS:
        return "too_few_turns"
    if rise.interval.low > 0 and all(turn is not None and turn > 0 for turn in rise.by_turn):
        return "slower"
    if rise.interval.high < 0 and all(turn is not None and turn < 0 for turn in rise.by_turn):
        return "faster"
    return "no_difference_shown"


def as_json(report: LoadReport, *, summary: str) -> dict[str, Any]:
    """Everything. Times have OpenTelemetry's names and unit (seconds); they are measured at the client."""
    plan = report.plan
    return {
        "object": "load_report",
        "summary": summary,
        "load": {
            "arrivals": "poisson, open loop, from the planned arrival",
            "rate_per_second": plan.rate_per_second,
            "requests_per_model": plan.requests,
            "rounds": plan.rounds,
            "warm_up_per_round": plan.warm_up,
            "distinct_prompts": len(plan.prompts),
            "max_tokens": plan.max_tokens,
            "timeout_seconds": plan.timeout_seconds,
            "seed": plan.seed,
            "limits": asdict(report.limits),
        },
        "models": [
            {
                "gen_ai.request.model": model,
                "requests": figures.requests,
                "failed": figures.failed,
                "errors": figures.errors,
                "first_error": figures.first_error,
                **{f"gen_ai.server.{name}": _times(times) for name, times in figures.times.items()},
                "gen_ai.usage.input_tokens": figures.prompt_lengths and asdict(figures.prompt_lengths),
                "gen_ai.usage.output_tokens": figures.answer_lengths and asdict(figures.answer_lengths),
                "are_tokens_counted_by_service": figures.are_tokens_counted_by_service,
                "throughput": asdict(figures.throughput),
                "goodput": figures.goodput and asdict(figures.goodput),
                "concurrency": asdict(figures.concurrency),
                "sent_late_p99_seconds": figures.sent_late_p99_seconds,
                "cost": _cost_json(report.costs.get(model)),
            }
            for model, figures in report.models.items()
        ],
        "p95_rise": {
            f"gen_ai.server.{name}": rise and {**asdict(rise), "verdict": verdict_of(rise)}
            for name, rise in report.rises.items()
        },
    }


def _times(times: Times | None) -> dict[str, Any] | None:
    return None if times is None else {"unit": "s", **asdict(times)}


def _cost_json(cost: Cost | None) -> dict[str, Any] | None:
    return None if cost is None else asdict(cost)
