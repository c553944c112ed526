"""Shows how a job came out: base beside tuned, and answers to read."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.table import Table

from app.cli.session import make_console

_BASE = "the base model"
_Figure = Callable[[Mapping[str, Any]], float | None]


def print_outcome(job: Mapping[str, Any]) -> None:
    """The model's name and, where the job was evaluated, the comparison."""
    print(f"\n{job['id']} succeeded: {job['fine_tuned_model']}")
    evaluation = job.get("evaluation")
    if evaluation:
        print_comparison(evaluation)


def print_comparison(evaluation: Mapping[str, Any]) -> None:
    """One line a figure: base, tuned."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(f"on {evaluation['rows']} held-out rows")
    table.add_column("base", justify="right")
    table.add_column("tuned", justify="right")
    for name, figure, form in _LINES:
        models = (evaluation["base"], evaluation["tuned"])
        values = [figure(scores) for scores in models]
        if any(value is not None for value in values):
            shown = ["-" if value is None else form.format(value) for value in values]
            bounds = [_bounds(scores, _FIGURES.get(name), form) for scores in models]
            table.add_row(name, *(f"{text}{more}" for text, more in zip(shown, bounds, strict=True)))
    console = make_console()
    console.print()
    console.print(table)
    # What stands beside the tuned model may be more than the base: its frozen features with a linear probe.
    base_is = str(evaluation.get("base_is") or _BASE)
    if base_is != _BASE:
        console.print(f"base: {base_is}", style="dim")
    for case in evaluation.get("expectations") or ():
        if not case["passed"]:
            console.print(
                f"not as expected: {shorten(case['expectation']['input'], 60)} → {shorten(case['tuned'], 60)}"
            )
            console.print(f"    {case['sentence']}", style="dim")
    if evaluation.get("summary"):
        console.print(f"\n{evaluation['summary']}")


def print_samples(samples: Sequence[Mapping[str, Any]], *, count: int = 3) -> None:
    """Held-out rows with both answers; those first where tuning mended the answer."""
    best = sorted(samples, key=lambda sample: (not _is_mended(sample), int(sample["line"])))
    for sample in best[:count]:
        print(f"\n  {shorten(last_message(str(sample['prompt'])), 160)}")
        print(f"    expected  {shorten(str(sample['expected']), 100)}")
        print(f"    base      {shorten(str(sample['base']), 100)}")
        print(f"    tuned     {shorten(str(sample['tuned']), 100)}")


def shorten(text: str, width: int) -> str:
    """One line of at most `width` characters."""
    line = " ".join(text.split())
    return line if len(line) <= width else f"{line[: width - 1]}…"


def last_message(prompt: str) -> str:
    """The last message of a rendered ChatML prompt; other prompts as they are."""
    parts = [part for part in prompt.split("<|im_start|>") if part.startswith("user\n")]
    return parts[-1].removeprefix("user\n").replace("<|im_end|>", "") if parts else prompt


def _is_mended(sample: Mapping[str, Any]) -> bool:
    return _same(sample["tuned"], sample["expected"]) and not _same(sample["base"], sample["expected"])


def _same(answer: str, expected: str) -> bool:
    return answer.strip().casefold() == expected.strip().casefold()


def _writes_text(scores: Mapping[str, Any]) -> bool:
    """Others have single predictions where these have tokens."""
    return scores["latency"]["time_to_first_token_ms_p50"] is not None


def _bounds(scores: Mapping[str, Any], name: str | None, form: str) -> str:
    """The 95 % interval of a figure that has one."""
    found = next((one for one in scores.get("figures") or () if one["name"] == name), None)
    return "" if found is None else f"  [{form.format(found['low'])}, {form.format(found['high'])}]"


def _part(group: str, name: str) -> _Figure:
    return lambda scores: None if scores.get(group) is None else scores[group][name]


# Lines of the table → the evaluation's figures, which have intervals.
_FIGURES = {
    "accuracy": "accuracy",
    "macro-F1": "macro_f1",
    "span F1": "span_f1",
    "span precision": "span_precision",
    "span recall": "span_recall",
    "ROUGE-1": "rouge1",
    "ROUGE-2": "rouge2",
    "ROUGE-L": "rouge_l",
    "preferred answers ranked first": "preference_accuracy",
    "reward margin (nats x beta)": "preference_margin",
    "loss (nats)": "loss",
}
_LINES: tuple[tuple[str, _Figure, str], ...] = (
    ("accuracy", _part("classification", "accuracy"), "{:.1%}"),
    ("macro-F1", _part("classification", "macro_f1"), "{:.3f}"),
    ("answers that are no label", _part("classification", "unmatched"), "{:d}"),
    ("span F1", _part("spans", "f1"), "{:.3f}"),
    ("span precision", _part("spans", "precision"), "{:.3f}"),
    ("span recall", _part("spans", "recall"), "{:.3f}"),
    ("ROUGE-1", _part("text", "rouge1"), "{:.3f}"),
    ("ROUGE-2", _part("text", "rouge2"), "{:.3f}"),
    ("ROUGE-L", _part("text", "rouge_l"), "{:.3f}"),
    ("words written / reference", _part("text", "length_ratio"), "{:.2f}"),
    ("preferred answers ranked first", _part("preference", "accuracy"), "{:.1%}"),
    ("reward margin (nats x beta)", _part("preference", "margin"), "{:.3f}"),
    ("loss (nats)", lambda scores: scores["loss"], "{:.3f}"),
    ("token accuracy", lambda scores: scores["token_accuracy"] if _writes_text(scores) else None, "{:.1%}"),
    ("time to first token, p50", _part("latency", "time_to_first_token_ms_p50"), "{:.0f} ms"),
    ("time to first token, p95", _part("latency", "time_to_first_token_ms_p95"), "{:.0f} ms"),
    ("tokens per second, p50", _part("latency", "tokens_per_second_p50"), "{:.1f}"),
    ("whole answer, p50", _part("latency", "end_to_end_ms_p50"), "{:.0f} ms"),
    ("whole answer, p95", _part("latency", "end_to_end_ms_p95"), "{:.0f} ms"),
)
