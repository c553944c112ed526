"""A load report as one table: a column a model, and what the second one changed."""

from collections.abc import Callable, Iterator

from rich.console import Console
from rich.table import Table

from app.load.cost import Cost
from app.load.figures import Lengths, ModelFigures, Times
from app.load.report import LoadReport
from app.load.words import assumptions, rise_text, summary

TIME_NAMES = {
    "time_to_first_token": ("first token", "{:,.0f} ms"),
    "time_per_output_token": ("each further token", "{:,.1f} ms"),
    "request.duration": ("whole answer", "{:,.0f} ms"),
}
_Cell = Callable[[ModelFigures], str]


def print_load(console: Console, report: LoadReport) -> None:
    """The table, what it rests on, and the summary."""
    plan = report.plan
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(f"{plan.rate_per_second:g} requests/s, {plan.requests} a model")
    for model in report.models:
        table.add_column(model, justify="right", overflow="fold")
    if report.rises:
        table.add_column("difference", justify="right")
    for name, cells, difference in _lines(report):
        table.add_row(name, *cells, *([difference] if report.rises else []))
    console.print()
    console.print(table)
    for cost in [cost for cost in report.costs.values() if cost is not None][:1]:
        console.print(assumptions(cost), style="dim")
    console.print(f"\n{summary(report)}")


def _lines(report: LoadReport) -> Iterator[tuple[str, list[str], str]]:
    """Name, a cell a model, the difference."""

    def line(name: str, cell: _Cell) -> tuple[str, list[str], str]:
        return name, [cell(figures) for figures in report.models.values()], ""

    for key, (name, form) in TIME_NAMES.items():
        for percent in ("p50", "p90", "p95", "p99"):
            rise = report.rises.get(key) if percent == "p95" else None
            cells = [_time(figures.times[key], percent, form) for figures in report.models.values()]
            yield f"{name}, {percent}", cells, "" if rise is None else rise_text(rise)
    yield line("requests/s", lambda figures: f"{figures.throughput.requests_per_second:.2f}")
    yield line("answer tokens/s", lambda figures: f"{figures.throughput.answer_tokens_per_second:.1f}")
    if report.limits.are_stated:
        yield line(f"good requests/s ({_limits(report)})", _goodput)
    yield line("failed", lambda figures: f"{figures.failed} of {figures.requests}")
    yield line("at once, mean and most", lambda figures: f"{figures.concurrency.mean:.1f}, {figures.concurrency.peak}")
    yield line("busy share of the time", lambda figures: f"{figures.throughput.busy_share:.0%}")
    yield line("prompt tokens, mean and most", lambda figures: _length(figures.prompt_lengths))
    yield line("answer tokens, mean and most", lambda figures: _length(figures.answer_lengths))
    yield from _costs(report)


def _costs(report: LoadReport) -> Iterator[tuple[str, list[str], str]]:
    if not report.costs:
        return
    figures: dict[str, Callable[[Cost], float | None]] = {
        "cost of 1,000 requests": lambda cost: cost.per_1000_requests,
        "cost of 1M answer tokens": lambda cost: cost.per_million_answer_tokens,
        "cost of 1M tokens, prompts too": lambda cost: cost.per_million_tokens,
    }
    for name, figure in figures.items():
        yield name, [_amount(None if cost is None else figure(cost)) for cost in report.costs.values()], ""


def _time(times: Times | None, percent: str, form: str) -> str:
    if times is None:
        return "-"
    shown = form.format(1000 * getattr(times, percent))
    if percent != "p95" or times.p95_interval is None:
        return shown
    low, high = (
        form.removesuffix(" ms").format(1000 * bound) for bound in (times.p95_interval.low, times.p95_interval.high)
    )
    return f"{shown} [{low}, {high}]"


def _limits(report: LoadReport) -> str:
    pairs = (("first token", report.limits.ttft_seconds), ("whole", report.limits.e2e_seconds))
    return ", ".join(f"{name} ≤ {1000 * limit:,.0f} ms" for name, limit in pairs if limit is not None)


def _goodput(figures: ModelFigures) -> str:
    found = figures.goodput
    return "-" if found is None else f"{found.requests_per_second:.2f} ({found.share:.0%})"


def _length(lengths: Lengths | None) -> str:
    return "-" if lengths is None else f"{lengths.mean:.0f}, {lengths.longest}"


def _amount(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
