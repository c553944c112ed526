"""Figures of entities against seqeval (strict) and nervaluate (every scheme)."""

import random

import pytest
from nervaluate import Evaluator
from seqeval.metrics.v1 import precision_recall_fscore_support
from seqeval.scheme import IOB2

from app.contracts.rows import Span
from workers.engine.evaluation.metrics.spans import span_breakdown, span_label_figures, span_metrics

LABELS = ("person", "place", "product")
NEAR = {"abs": 1e-9}
_NAMES = {"strict": "strict", "exact": "exact", "partial": "partial", "type": "ent_type"}


def draw_tags(draw: random.Random, length: int) -> list[str]:
    """IOB2 of random entities that touch, nest in nothing and sometimes fill the row."""
    tags: list[str] = []
    while len(tags) < length:
        if draw.random() < 0.5:
            tags.append("O")
        else:
            label = draw.choice(LABELS)
            tags += [f"B-{label}", *[f"I-{label}"] * draw.randrange(3)]
    # Cut short, a tag sequence stays whole: an I needs a B before it only.
    return tags[:length]


def disturb(draw: random.Random, tags: list[str]) -> list[str]:
    """Another valid sequence that agrees here and there."""
    other = draw_tags(draw, len(tags))
    cut = draw.randrange(len(tags) + 1)
    joined = tags[:cut] + other[cut:]
    return [
        tag if tag[0] != "I" or (place and joined[place - 1][2:] == tag[2:]) else f"B{tag[1:]}"
        for place, tag in enumerate(joined)
    ]


def spans(tags: list[str]) -> list[Span]:
    """Tokens as characters: [start, end)."""
    found: list[list] = []
    for place, tag in enumerate(tags):
        if tag[0] == "B":
            found.append([place, place + 1, tag[2:]])
        elif tag[0] == "I":
            found[-1][1] = place + 1
    return [Span(start=start, end=end, label=label) for start, end, label in found]


def rows(seed: int):
    draw = random.Random(seed)  # noqa: S311 not a secret
    truth = [draw_tags(draw, draw.randrange(1, 25)) for _ in range(draw.randrange(1, 12))]
    return truth, [disturb(draw, tags) for tags in truth]


@pytest.mark.parametrize("seed", range(40))
def test_strict_figures_are_seqevals(seed):
    truth, found = rows(seed)
    if not any(tag != "O" for tags in (*truth, *found) for tag in tags):
        pytest.fail("the fixture has no entities")
    ours = {m.name: m.value for m in span_metrics([spans(t) for t in truth], [spans(f) for f in found])}
    expected = precision_recall_fscore_support(truth, found, average="micro", scheme=IOB2, zero_division=0)
    assert [ours[f"span_{name}"] for name in ("precision", "recall", "f1")] == pytest.approx(list(expected[:3]), **NEAR)


@pytest.mark.parametrize("seed", range(40))
def test_figures_of_each_label_are_seqevals(seed):
    truth, found = rows(seed)
    figures = span_label_figures([spans(t) for t in truth], [spans(f) for f in found])
    expected = precision_recall_fscore_support(truth, found, average=None, scheme=IOB2, zero_division=0)
    ours = [(figure.precision, figure.recall, figure.f1, figure.support) for figure in figures]
    for mine, theirs in zip(ours, zip(*expected, strict=True), strict=True):
        assert mine == pytest.approx(theirs, **NEAR)


@pytest.mark.parametrize("seed", range(60))
def test_every_scheme_counts_as_nervaluate(seed):
    truth, found = rows(seed)
    evaluated = Evaluator(
        [[_as_dict(span) for span in spans(tags)] for tags in truth],
        [[_as_dict(span) for span in spans(tags)] for tags in found],
        tags=list(LABELS),
        loader="dict",
    ).evaluate()["overall"]
    ours = {m.name: m.value for m in span_metrics([spans(t) for t in truth], [spans(f) for f in found])}
    for breakdown in span_breakdown([spans(t) for t in truth], [spans(f) for f in found]):
        expected = evaluated[_NAMES[breakdown.scheme]]
        for count in ("correct", "incorrect", "partial", "missed", "spurious", "precision", "recall", "f1"):
            assert getattr(breakdown, count) == pytest.approx(getattr(expected, count), **NEAR), breakdown.scheme
        name = "span_f1" if breakdown.scheme == "strict" else f"span_f1_{breakdown.scheme}"
        assert ours[name] == pytest.approx(expected.f1, **NEAR)


def test_of_two_true_entities_under_one_found_span_the_nearer_one_is_taken_as_by_nervaluate():
    truth = [Span(start=0, end=3, label="person"), Span(start=3, end=10, label="person")]
    found = [Span(start=1, end=10, label="person"), Span(start=0, end=1, label="person")]
    both = [[[_as_dict(span) for span in spans]] for spans in (truth, found)]
    expected = Evaluator(*both, tags=list(LABELS), loader="dict").evaluate()["overall"]["ent_type"]
    (ours,) = [one for one in span_breakdown([truth], [found]) if one.scheme == "type"]
    assert (ours.correct, ours.missed, ours.spurious) == (expected.correct, expected.missed, expected.spurious)
    assert (ours.correct, ours.missed, ours.spurious) == (2, 0, 0)


def test_near_misses_count_in_the_schemes_that_forgive_them():
    truth = [[Span(start=0, end=10, label="person"), Span(start=20, end=25, label="place")]]
    found = [[Span(start=2, end=10, label="person"), Span(start=20, end=25, label="product")]]
    ours = {m.name: m.value for m in span_metrics(truth, found)}
    assert (ours["span_f1"], ours["span_f1_exact"], ours["span_f1_partial"], ours["span_f1_type"]) == (
        0,
        0.5,
        0.75,
        0.5,
    )


def test_rows_without_entities_score_nothing_and_no_rows_are_refused():
    assert {m.value for m in span_metrics([[]], [[]])} == {0.0}
    assert span_label_figures([[]], [[]]) == []
    with pytest.raises(ValueError, match="no rows"):
        span_metrics([], [])


def _as_dict(span: Span) -> dict:
    return {"label": span.label, "start": span.start, "end": span.end - 1}  # nervaluate's ends are inclusive
