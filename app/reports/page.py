"""An evaluation as one self-contained HTML page: the paragraph first, the figures under it, the methods at the end."""

from collections.abc import Sequence
from html import escape

from app.contracts.figures import Baseline, Calibration, Figure, FigureComparison, Verdict
from app.contracts.reports import Evaluation, ModelScores
from app.reports import plots
from app.reports.words import figure_of, name_of, show

_VERDICTS: dict[Verdict, str] = {
    "better": "Better",
    "worse": "Worse",
    "no_difference_shown": "No difference shown",
    "too_little_data": "Too little data",
}
_PLOTTED = {"accuracy", "macro_f1", "weighted_f1", "mcc", "span_f1", "span_precision", "span_recall", "rouge1"} | {
    "rouge2",
    "rouge_l",
    "preference_accuracy",
}
_SMALLEST_P = 0.001
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; margin-bottom: 0; } h2 { font-size: 1.1rem; margin-top: 2.2rem; }
.verdict { display: inline-block; border: 2px solid #1a1a1a; border-radius: 4px; padding: .1rem .6rem; }
.verdict { font-weight: 600; }
.lead { font-size: 1.1rem; } .note { color: #595959; font-size: .85rem; }
table { border-collapse: collapse; }
th, td { padding: .2rem .7rem; text-align: right; border-bottom: 1px solid #dddddd; }
th:first-child, td:first-child { text-align: left; } td.text { text-align: left; vertical-align: top; }
td.text { overflow-wrap: anywhere; min-width: 7rem; }
.wide { overflow-x: auto; } .confusion { font-size: .8rem; } .confusion th { font-weight: 500; }
svg { max-width: 100%; height: auto; }
"""


def page(evaluation: Evaluation, *, title: str, subtitle: str) -> str:
    """The whole document."""
    judged = evaluation.judgement
    badge = "" if judged is None else f'<p class="verdict">{_VERDICTS[judged.verdict]}</p>'
    sections = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="note">{escape(subtitle)}</p>',
        badge,
        f'<p class="lead">{escape(evaluation.summary)}</p>',
        _figures(evaluation),
        "" if judged is None else _comparisons(judged.comparisons, judged.baselines),
        _requirements(evaluation),
        _expectations(evaluation),
        _labels(evaluation.tuned),
        _calibration(evaluation),
        _latency(evaluation),
        _samples(evaluation),
        _methods(evaluation),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>{''.join(sections)}</body></html>\n"
    )


def _figures(evaluation: Evaluation) -> str:
    pairs = [
        (tuned, base)
        for tuned in evaluation.tuned.figures
        if (base := figure_of(evaluation.base, tuned.name)) is not None
    ]
    if not pairs:
        return ""
    rows = [[name_of(tuned.name), _with_bounds(base), _with_bounds(tuned), f"{tuned.n:,}"] for tuned, base in pairs]
    plotted = [
        (name_of(tuned.name), (base.value, base.low, base.high), (tuned.value, tuned.low, tuned.high))
        for tuned, base in pairs
        if tuned.name in _PLOTTED
    ]
    note = "" if evaluation.base_is == "the base model" else f'<p class="note">base: {escape(evaluation.base_is)}</p>'
    return (
        "<h2>Base beside tuned, with 95 % intervals</h2>"
        + (plots.intervals(plotted) if plotted else "")
        + _table(["", "base", "tuned", "rows"], rows)
        + note
    )


def _comparisons(found: Sequence[FigureComparison], baselines: Sequence[Baseline]) -> str:
    lines = [*found, *(one for baseline in baselines for one in baseline.comparisons)]
    rows = [
        [
            f"{name_of(one.name)}, against {one.against}",
            show(one.name, one.difference, is_difference=True),
            " to ".join(show(one.name, bound, is_difference=True) for bound in (one.low, one.high)),
            "below 0.001" if one.p_adjusted < _SMALLEST_P else f"{one.p_adjusted:.2g}",
            _VERDICTS[one.verdict].lower(),
            show(one.name, one.smallest_detectable),
        ]
        for one in lines
    ]
    heads = ["tuned minus other", "difference", "95 % interval", "p, corrected", "verdict", "smallest visible"]
    notes = "".join(f"<li>{escape(one.name)}: {escape(one.description)}</li>" for one in baselines)
    return "<h2>Is the difference more than chance?</h2>" + _table(heads, rows) + f'<ul class="note">{notes}</ul>'


def _requirements(evaluation: Evaluation) -> str:
    if not evaluation.requirements:
        return ""
    rows = [[one.requirement.text, one.outcome.replace("_", " "), one.sentence] for one in evaluation.requirements]
    return "<h2>Does it meet the requirements?</h2>" + _table(["requirement", "outcome", ""], rows)


def _expectations(evaluation: Evaluation) -> str:
    if not evaluation.expectations:
        return ""
    rows = "".join(
        "<tr>" + "".join(f'<td class="text">{escape(text[:600])}</td>' for text in cells) + "</tr>"
        for one in sorted(evaluation.expectations, key=lambda one: one.passed)
        for cells in [
            (
                one.expectation.input,
                f"{one.expectation.kind.replace('_', ' ')} {one.expectation.value}",
                one.base,
                one.tuned,
                "met" if one.passed else one.sentence,
            )
        ]
    )
    heads = "".join(f"<th>{head}</th>" for head in ("input", "expected", "base", "tuned", ""))
    return f'<h2>Does it do what you expect?</h2><div class="wide"><table><tr>{heads}</tr>{rows}</table></div>'


def _labels(tuned: ModelScores) -> str:
    if not tuned.classes:
        return ""
    rows = [
        [one.label, f"{one.precision:.2f}", f"{one.recall:.2f}", f"{one.f1:.2f}", f"{one.support:,}"]
        for one in sorted(tuned.classes, key=lambda one: one.f1)
    ]
    confused = ""
    if tuned.confusion is not None:
        confused = f'<h2>What is taken for what</h2><div class="wide">{plots.confusion(tuned.confusion)}</div>'
    table = _table(["label, weakest first", "precision", "recall", "F1", "rows"], rows)
    return f"<h2>Label by label</h2>{table}{confused}"


def _calibration(evaluation: Evaluation) -> str:
    tuned = evaluation.tuned.calibration
    if tuned is None:
        return ""
    return (
        "<h2>Is it right as often as it is sure?</h2>"
        + plots.reliability(evaluation.base.calibration, tuned)
        + f'<p class="note">Expected calibration error {tuned.ece:.3f} as trained, {tuned.ece_at_temperature:.3f} at '
        f"temperature {tuned.temperature:.2f} ({escape(tuned.fitted_on)}). Brier score {tuned.brier:.3f} and "
        f"{tuned.brier_at_temperature:.3f}. Answering only the surest 80 % it is right in "
        f"{100 * _at_coverage(tuned.coverage, 0.8):.1f} %.{_sets(tuned)}</p>"
    )


def _sets(tuned: Calibration) -> str:
    if tuned.conformal_coverage is None:
        return ""
    return (
        f" Its 90 % sets hold the right label in {100 * tuned.conformal_coverage:.1f} % and have "
        f"{tuned.conformal_set_size:.2f} labels on average."
    )


def _at_coverage(curve: Sequence[tuple[float, float]], share: float) -> float:
    return min(curve, key=lambda point: abs(point[0] - share))[1]


def _latency(evaluation: Evaluation) -> str:
    base, tuned = evaluation.base.latency, evaluation.tuned.latency
    rows = [
        [f"whole answer, {name}", f"{b:.0f} ms", f"{t:.0f} ms"]
        for name, b, t in (
            ("median", base.end_to_end_ms_p50, tuned.end_to_end_ms_p50),
            ("95 of 100", base.end_to_end_ms_p95, tuned.end_to_end_ms_p95),
        )
    ]
    drawn = plots.times(base.end_to_end_ms, tuned.end_to_end_ms) if tuned.end_to_end_ms else ""
    return (
        "<h2>How fast it answers</h2>"
        + drawn
        + _table(["one request at a time, as evaluated", "base", "tuned"], rows)
        + f'<p class="note">{tuned.n} requests each, in turns, after a warm-up.</p>'
    )


def _samples(evaluation: Evaluation) -> str:
    if not evaluation.samples:
        return ""
    lines = "".join(
        "<tr>" + "".join(f'<td class="text">{escape(text[:600])}</td>' for text in texts) + "</tr>"
        for one in evaluation.samples
        for texts in [(one.prompt, one.expected, one.base, one.tuned)]
    )
    heads = "".join(f"<th>{head}</th>" for head in ("held-out row", "expected", "base", "tuned"))
    return f'<h2>To read</h2><div class="wide"><table><tr>{heads}</tr>{lines}</table></div>'


def _methods(evaluation: Evaluation) -> str:
    lines = "".join(
        f"<li>{escape(name_of(one.name))}: {escape(one.interval)}; <code>{escape(one.signature)}</code></li>"
        for one in evaluation.tuned.figures
    )
    tests = "" if evaluation.judgement is None else f"<li>{escape(evaluation.judgement.comparisons[0].test)}</li>"
    dropped = f"<li>{len(evaluation.dropped)} held-out rows could not be used.</li>" if evaluation.dropped else ""
    return f'<h2>How this was measured</h2><ul class="note">{tests}{dropped}{lines}</ul>'


def _with_bounds(figure: Figure) -> str:
    low, high = show(figure.name, figure.low), show(figure.name, figure.high)
    return f"{show(figure.name, figure.value)} ({low} to {high})"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'
