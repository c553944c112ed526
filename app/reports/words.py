"""An evaluation in plain words: what was found, how sure that is, and what to do now."""

from collections.abc import Sequence

from app.contracts.figures import Figure, FigureComparison, Judgement, Verdict
from app.contracts.reports import Evaluation, Latency, ModelScores
from app.contracts.requirements import RequirementJudgement

COST = "cost_per_1000_decisions"
NAMES = {
    "accuracy": "accuracy",
    "macro_f1": "macro-F1",
    "micro_f1": "micro-F1",
    "weighted_f1": "weighted F1",
    "mcc": "Matthews correlation",
    "span_f1": "entity F1",
    "span_precision": "entity precision",
    "span_recall": "entity recall",
    "span_f1_exact": "entity F1, bounds alone",
    "span_f1_partial": "entity F1, half for an overlap",
    "span_f1_type": "entity F1, any overlap of the type",
    "p50_ms": "time of an answer, median",
    "p95_ms": "time of an answer, 95 of 100 within",
    "field_f1": "field F1",
    "field_precision": "field precision",
    "field_recall": "field recall",
    "record_accuracy": "records right in every field",
    "valid_json": "answers that are JSON",
    "expectations_met": "expectations met",
    "rouge1": "ROUGE-1",
    "rouge2": "ROUGE-2",
    "rouge_l": "ROUGE-L",
    "rouge_lsum": "ROUGE-Lsum",
    "chrf_pp": "chrF++",
    "loss": "loss",
    "preference_accuracy": "share of preferred answers ranked first",
    "preference_margin": "reward margin",
    COST: "cost per 1,000 decisions",
}
_PERCENT = {
    "accuracy",
    "preference_accuracy",
    "stop_rate",
    "loop_rate",
    "empty_rate",
    "expectations_met",
    "record_accuracy",
    "valid_json",
}
_VERDICTS: dict[Verdict, str] = {
    "better": "is better than",
    "worse": "is worse than",
    "no_difference_shown": "does about as well as",
    "too_little_data": "cannot be told apart from",
}
_WEAK_F1, _WEAKEST = 0.6, 3
_SMALLEST_SUPPORT = 5
_RELEVANT = 0.05
_WHOLE = {"chrf_pp": 100.0}


def summary(evaluation: Evaluation) -> str:
    """One paragraph that needs no statistics to be acted on; empty where nothing was judged."""
    judged = evaluation.judgement
    if judged is None:
        return ""
    is_met = all(one.outcome == "pass" for one in evaluation.requirements)
    is_met = is_met and all(one.passed for one in evaluation.expectations)
    sentences = [
        _finding(evaluation, judged),
        _cheap(judged),
        _weak(evaluation.tuned),
        _money(evaluation, judged),
        _leaked(evaluation, judged.decides),
        _gate(evaluation.requirements),
        _expected(evaluation),
        _speed(evaluation.base.latency, evaluation.tuned.latency),
        advice(judged, is_met=is_met, is_versions=judged.comparisons[0].against != "base"),
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def name_of(figure: str) -> str:
    """As people say it."""
    return NAMES.get(figure, figure.replace("_", " "))


def show(figure: str, value: float, *, is_difference: bool = False) -> str:
    """A value in the figure's usual form."""
    if figure in _PERCENT:
        return f"{100 * value:+.1f} points" if is_difference else f"{100 * value:.1f} %"
    if figure.endswith("_ms"):
        return f"{value:+,.0f} ms" if is_difference else f"{value:,.0f} ms"
    digits = 1 if figure == COST else 3
    return f"{value:+,.{digits}f}" if is_difference else f"{value:,.{digits}f}"


def figure_of(scores: ModelScores, name: str) -> Figure | None:
    """A model's figure by its name."""
    return next((figure for figure in scores.figures if figure.name == name), None)


def advice(judged: Judgement, *, is_met: bool = True, is_versions: bool = False) -> str:
    """What to do now; `is_met`: no requirement is open; `is_versions`: an earlier model stands in the base's place."""
    if judged.verdict == "worse":
        return "Do not use it: look at the rows it gets wrong, and at the training data, before another run."
    if not is_met:
        return "Do not use it yet: it was not shown to meet what was required of it."
    if judged.baseline_better:
        return f"Use the cheap way ({_and(judged.baseline_better)}) unless more rows change the picture."
    if judged.verdict == "better":
        return "Use it if the figures are good enough for the task."
    if judged.verdict == "no_difference_shown":
        keep = "Keep the earlier model: there is no reason to change" if is_versions else "Keep the base: it is cheaper"
        return f"{keep}, and a difference that matters would have been seen."
    first = judged.comparisons[0]
    wanted = first.n * (first.smallest_detectable / (_RELEVANT * _WHOLE.get(first.name, 1.0))) ** 2
    return f"Hold out more rows, about {_round_up(wanted):,}, to see a difference of five points."


def _finding(evaluation: Evaluation, judged: Judgement) -> str:
    first = judged.comparisons[0]
    base, tuned = figure_of(evaluation.base, first.name), figure_of(evaluation.tuned, first.name)
    against = "the base" if evaluation.base_is == "the base model" else evaluation.base_is
    values = ""
    if base is not None and tuned is not None:
        values = f": {name_of(first.name)} {show(first.name, tuned.value)} against {show(first.name, base.value)}"
    return (
        f"On {first.n:,} held-out rows the tuned model {_VERDICTS[judged.verdict]} {against}{values} "
        f"({_difference(first)})."
    )


def _difference(found: FigureComparison) -> str:
    bounds = " to ".join(show(found.name, bound, is_difference=True) for bound in (found.low, found.high))
    return f"difference {show(found.name, found.difference, is_difference=True)}, with 95 % certainty {bounds}"


def _cheap(judged: Judgement) -> str:
    if not judged.baseline_better:
        return ""
    return f"A cheap answer is at least as good: {_and(judged.baseline_better)}."


def _leaked(evaluation: Evaluation, decides: str) -> str:
    if evaluation.leaked is None:
        return ""
    rows = evaluation.leaked.rows
    if rows == evaluation.rows:
        return "Training had seen all of these rows: the figures say what it remembers, not what it has learned."
    first = next((figure for figure in evaluation.leaked.tuned if figure.name == decides), None)
    value = "" if first is None else f" ({name_of(decides)} there: {show(decides, first.value)})"
    one = "1 row was" if rows == 1 else f"{rows:,} rows were"
    return f"{one} not counted, because training had seen {'it' if rows == 1 else 'them'}{value}."


def _gate(judged: Sequence[RequirementJudgement]) -> str:
    if not judged:
        return ""
    open_ones = [one for one in judged if one.outcome != "pass"]
    if not open_ones:
        return f"It meets all {len(judged)} requirements." if len(judged) > 1 else "It meets the requirement."
    said = " ".join(f"{one.sentence.rstrip('.')}." for one in open_ones)
    return f"Of {len(judged)} requirements {len(judged) - len(open_ones)} are met. {said}"


def _expected(evaluation: Evaluation) -> str:
    if not evaluation.expectations:
        return ""
    met = sum(one.passed for one in evaluation.expectations)
    before = sum(one.base_passed for one in evaluation.expectations)
    return f"Of your {len(evaluation.expectations)} expectations it meets {met} (base {before})."


def _weak(tuned: ModelScores) -> str:
    counted = [one for one in tuned.classes if one.support >= _SMALLEST_SUPPORT]
    weak = sorted((one for one in counted if one.f1 < _WEAK_F1), key=lambda one: one.f1)[:_WEAKEST]
    if not weak:
        return ""
    return "It is weakest on " + _and([f"{one.label} (F1 {one.f1:.2f}, {one.support} rows)" for one in weak]) + "."


def _money(evaluation: Evaluation, judged: Judgement) -> str:
    decisions = evaluation.tuned.decisions
    found = next((one for one in judged.comparisons if one.name == COST), None)
    base, tuned = figure_of(evaluation.base, COST), figure_of(evaluation.tuned, COST)
    if decisions is None or found is None or base is None or tuned is None:
        return ""
    return (
        f"By your costs 1,000 of its decisions cost {show(COST, tuned.value)} against {show(COST, base.value)} "
        f"({_difference(found)}); {100 * decisions.changed:.1f} % of them are not its likeliest answer, which would "
        f"cost {show(COST, decisions.likeliest_per_1000)}."
    )


def _speed(base: Latency, tuned: Latency) -> str:
    return (
        f"One answer takes {tuned.end_to_end_ms_p50:.0f} ms, 95 of 100 at most {tuned.end_to_end_ms_p95:.0f} ms "
        f"(base {base.end_to_end_ms_p50:.0f} and {base.end_to_end_ms_p95:.0f})."
    )


def _and(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _round_up(rows: float) -> int:
    """To two digits: more would claim to know more."""
    step = 10 ** max(0, len(str(int(rows))) - 2)
    return int(-(-rows // step) * step)
