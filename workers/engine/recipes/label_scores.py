"""Figures of predicted label sets and entities: pure functions, no tensors."""

from collections.abc import Sequence

from app.contracts.rows import Span


def macro_f1(truth: Sequence[tuple[int, ...]], predicted: Sequence[tuple[int, ...]]) -> float:
    """Unweighted mean of the labels' F1 = 2 tp / (2 tp + fp + fn) over the labels that occur, as scikit-learn's.

    Each item is the set of labels of one text. 0 where no label occurs.
    """
    hits: dict[int, int] = {}
    misses: dict[int, int] = {}
    for wanted, found in zip(truth, predicted, strict=True):
        for label in set(wanted) & set(found):
            hits[label] = hits.get(label, 0) + 1
        for label in set(wanted) ^ set(found):
            misses[label] = misses.get(label, 0) + 1
    labels = hits.keys() | misses.keys()
    total = sum(2 * hits.get(label, 0) / (2 * hits.get(label, 0) + misses.get(label, 0)) for label in labels)
    return total / len(labels) if labels else 0.0


def span_f1(expected: int, predicted: int, correct: int) -> float:
    """F1 of entities from their counts; 0 where there are none."""
    return 2 * correct / (expected + predicted) if expected + predicted else 0.0


def count_spans(truth: Sequence[Span], predicted: Sequence[Span]) -> tuple[int, int, int]:
    """(expected, predicted, correct): correct where start, end and label are all right."""
    wanted = {(span.start, span.end, span.label) for span in truth}
    found = {(span.start, span.end, span.label) for span in predicted}
    return len(wanted), len(found), len(wanted & found)
