"""Answers in free text as labels, and their scores: pure functions, no tensors."""

import string
from collections.abc import Iterable, Sequence

from app.contracts.reports import ClassScores

_TRAILING = string.punctuation + string.whitespace + "\u3002\uff01\uff1f"


def normalise_label(text: str) -> str:
    """How answers are compared with labels: without outer white space and letter case."""
    return text.strip().casefold()


def match_label(answer: str, labels: Iterable[str]) -> str | None:
    """The normalised label the answer names, or None.

    Exact after `normalise_label`; failing that, punctuation at the end of either is left out of account.
    """
    wanted = normalise_label(answer)
    known = [normalise_label(label) for label in labels]
    if wanted in known:
        return wanted
    stripped = wanted.rstrip(_TRAILING)
    return next((label for label in known if stripped and label.rstrip(_TRAILING) == stripped), None)


def class_scores(expected: Sequence[str], answers: Sequence[str], labels: Sequence[str]) -> ClassScores:
    """Scores of free-text answers to a classification task; an answer that names no label is wrong.

    Raises ValueError for no rows or lists of unequal length.
    """
    truth = [match_label(text, labels) or normalise_label(text) for text in expected]
    predicted = [match_label(answer, labels) for answer in answers]
    correct = sum(t == p for t, p in zip(truth, predicted, strict=True))
    return ClassScores(
        accuracy=accuracy(truth, predicted),
        macro_f1=macro_f1(truth, predicted),
        correct=correct,
        n=len(truth),
        unmatched=sum(p is None for p in predicted),
    )


def accuracy(truth: Sequence[str], predicted: Sequence[str | None]) -> float:
    """Share of right predictions. Raises ValueError for no rows."""
    if not truth:
        raise ValueError("accuracy of no rows")
    return sum(t == p for t, p in zip(truth, predicted, strict=True)) / len(truth)


def macro_f1(truth: Sequence[str], predicted: Sequence[str | None]) -> float:
    """Unweighted mean of the labels' F1 = 2 tp / (2 tp + fp + fn), as scikit-learn's `f1_score(average="macro")`.

    The mean goes over the labels that occur in truth or predictions. None (no label) is a miss of the
    true label, not a label of its own. Raises ValueError for no rows.
    """
    if not truth:
        raise ValueError("macro-F1 of no rows")
    pairs = list(zip(truth, predicted, strict=True))
    labels = sorted(set(truth) | {p for p in predicted if p is not None})
    total = 0.0
    for label in labels:
        hits = sum(t == label and p == label for t, p in pairs)
        misses = sum((t == label) != (p == label) for t, p in pairs)  # false positives and false negatives
        total += 2 * hits / (2 * hits + misses)
    return total / len(labels)
