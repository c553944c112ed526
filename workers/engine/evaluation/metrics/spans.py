"""Figures of entities: strict ones as CoNLL's, and how near the others came, as in MUC-5 and SemEval 2013.

`strict` wants start, end and label; `exact` start and end; `partial` start and end too, and half a point for an
overlap; `type` an overlap and the label. Counts are those of nervaluate (one percent of a true span is an overlap);
strict ones equal seqeval's in strict mode as long as the found spans do not overlap.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from app.contracts.figures import ClassFigures, SpanBreakdown
from app.contracts.rows import Span
from workers.engine.evaluation.metrics.signature import signature
from workers.engine.evaluation.statistics.metric import Floats, Metric, divide

Scheme = Literal["strict", "exact", "partial", "type"]
SCHEMES: tuple[Scheme, ...] = get_args(Scheme)
_OVERLAP = 0.01  # of the true span


@dataclass(frozen=True)
class _Counts:
    correct: int = 0
    incorrect: int = 0
    partial: int = 0
    missed: int = 0
    spurious: int = 0

    @property
    def parts(self) -> tuple[float, int, int]:
        """(points, spans expected, spans found)."""
        wrong = self.incorrect + self.partial
        return (
            self.correct + self.partial / 2,
            self.correct + wrong + self.missed,
            self.correct + wrong + self.spurious,
        )


def span_metrics(wanted: Sequence[Sequence[Span]], found: Sequence[Sequence[Span]]) -> list[Metric]:
    """span_precision, span_recall, span_f1 (strict) and span_f1_{exact, partial, type}, micro over all spans.

    Raises ValueError for no rows or lists of unequal length.
    """
    if not wanted:
        raise ValueError("figures of no rows")
    metrics = []
    for scheme in SCHEMES:
        parts = np.array([_count(t, f, scheme).parts for t, f in zip(wanted, found, strict=True)], dtype=np.float64)
        shown = signature(scheme=scheme, average="micro", units="characters", zero=0)
        if scheme == "strict":
            metrics += [
                Metric("span_precision", shown, parts, lambda sums: divide(sums[..., 0], sums[..., 2])),
                Metric("span_recall", shown, parts, lambda sums: divide(sums[..., 0], sums[..., 1])),
            ]
        metrics.append(Metric("span_f1" if scheme == "strict" else f"span_f1_{scheme}", shown, parts, _f1))
    return metrics


def span_breakdown(wanted: Sequence[Sequence[Span]], found: Sequence[Sequence[Span]]) -> list[SpanBreakdown]:
    """What became of the spans under each scheme."""
    breakdowns = []
    for scheme in SCHEMES:
        counts = [_count(t, f, scheme) for t, f in zip(wanted, found, strict=True)]
        points, expected, predicted = np.sum([count.parts for count in counts], axis=0).tolist()
        breakdowns.append(
            SpanBreakdown(
                scheme=scheme,
                correct=sum(count.correct for count in counts),
                incorrect=sum(count.incorrect for count in counts),
                partial=sum(count.partial for count in counts),
                missed=sum(count.missed for count in counts),
                spurious=sum(count.spurious for count in counts),
                precision=points / predicted if predicted else 0.0,
                recall=points / expected if expected else 0.0,
                f1=2 * points / (predicted + expected) if predicted + expected else 0.0,
            )
        )
    return breakdowns


def span_label_figures(wanted: Sequence[Sequence[Span]], found: Sequence[Sequence[Span]]) -> list[ClassFigures]:
    """Strict figures of each label that occurs, by name."""
    labels = sorted({span.label for spans in (*wanted, *found) for span in spans})
    figures = []
    for label in labels:
        counts = [
            _count([s for s in t if s.label == label], [s for s in f if s.label == label], "strict").parts
            for t, f in zip(wanted, found, strict=True)
        ]
        points, expected, predicted = np.sum(counts, axis=0).tolist()
        figures.append(
            ClassFigures(
                label=label,
                precision=points / predicted if predicted else 0.0,
                recall=points / expected if expected else 0.0,
                f1=2 * points / (predicted + expected),
                support=int(expected),
            )
        )
    return figures


def _f1(sums: Floats) -> Floats:
    return divide(2 * sums[..., 0], sums[..., 1] + sums[..., 2])


def _count(wanted: Sequence[Span], found: Sequence[Span], scheme: Scheme) -> _Counts:
    """Spans found are matched in their order, each with one true span that is not yet taken."""
    free = list(wanted)
    correct = partial = incorrect = spurious = 0
    for span in found:
        near = [true for true in free if _overlap(true, span)]
        right = _right(span, near, scheme)
        match = right or next(iter(near), None)
        if match is None:
            spurious += 1
            continue
        free.remove(match)
        if right:
            correct += 1
        elif scheme == "partial":
            partial += 1
        else:
            incorrect += 1
    return _Counts(correct, incorrect, partial, len(free), spurious)


def _right(span: Span, near: Sequence[Span], scheme: Scheme) -> Span | None:
    """The true span that makes this one correct."""
    place = (span.start, span.end)
    if scheme == "type":
        same = [true for true in near if true.label == span.label]
        return min(same, key=lambda true: abs(true.start - span.start) + abs(true.end - span.end), default=None)
    exact = [true for true in near if (true.start, true.end) == place]
    return next((true for true in exact if scheme != "strict" or true.label == span.label), None)


def _overlap(true: Span, span: Span) -> bool:
    shared = min(true.end, span.end) - max(true.start, span.start)
    return shared > 0 and shared >= _OVERLAP * (true.end - true.start)
