"""Figures of labels: of one label a text, of several, and of answers in free text that name a label or none.

Definitions and their corner cases are those of scikit-learn with `zero_division=0`. Macro averages go over the labels
that occur in truth or answers (of each resample too). An answer that is no label is a miss of the true label; it is no
label of its own in averages, but it is one in the correlation coefficient and in the confusion.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from app.contracts.figures import ClassFigures, Confusion
from workers.engine.evaluation.metrics.label_match import match_label, normalise_label
from workers.engine.evaluation.metrics.signature import fingerprint, signature
from workers.engine.evaluation.statistics.metric import Floats, Metric, divide, proportion

CONFUSION_LABELS = 20

_Score = Literal["precision", "recall", "f1"]
_Average = Literal["macro", "micro", "weighted"]
_SCORES: tuple[_Score, ...] = ("precision", "recall", "f1")
_AVERAGES: tuple[_Average, ...] = ("macro", "micro", "weighted")


@dataclass(frozen=True)
class Labelled:
    """The labels rows have and those they were given."""

    labels: tuple[str, ...]
    wanted: Floats
    """[n, C] of 0 and 1."""
    answered: Floats
    """[n, C] of 0 and 1; of a row of no label, or with an answer that is none, all 0."""
    is_multi_label: bool

    @property
    def hits(self) -> npt.NDArray[np.bool_]:
        """[n]: all labels of the row are right, and no other was given."""
        return np.asarray((self.wanted == self.answered).all(axis=1))


def labelled(
    labels: Sequence[str],
    wanted: Sequence[Sequence[int]],
    answered: Sequence[Sequence[int]],
    *,
    is_multi_label: bool,
) -> Labelled:
    """From each row's label indices. Raises ValueError for no rows, unequal lengths, or a row without its one label."""
    if not wanted or len(wanted) != len(answered):
        raise ValueError(f"{len(wanted)} rows and {len(answered)} answers")
    if not is_multi_label and any(len(row) != 1 for row in wanted):
        raise ValueError("a row of a single-label task has not exactly one label")
    if not is_multi_label and any(len(row) > 1 for row in answered):
        raise ValueError("an answer to a single-label task has several labels")
    return Labelled(tuple(labels), _one_hot(wanted, len(labels)), _one_hot(answered, len(labels)), is_multi_label)


def labelled_answers(expected: Sequence[str], answers: Sequence[str], labels: Sequence[str]) -> Labelled:
    """From texts that should name one label each. A true label that is not among `labels` joins them.

    Raises ValueError for no rows or lists of unequal length.
    """
    known = {normalise_label(label): label for label in labels}
    truth = [match_label(text, labels) or normalise_label(text) for text in expected]
    for label in truth:
        known.setdefault(label, label)
    places = {label: place for place, label in enumerate(known)}
    given = [match_label(answer, labels) for answer in answers]
    return labelled(
        tuple(known.values()),
        [(places[label],) for label in truth],
        [() if label is None else (places[label],) for label in given],
        is_multi_label=False,
    )


def class_metrics(rows: Labelled) -> list[Metric]:
    """accuracy, {macro, micro, weighted}_{precision, recall, f1} and, of single labels, mcc."""
    shown = {"labels": fingerprint(rows.labels), "multi": "yes" if rows.is_multi_label else "no"}
    parts = np.concatenate([rows.wanted * rows.answered, rows.wanted, rows.answered], axis=1)
    metrics = [proportion("accuracy", rows.hits, signature=signature(match="set", **shown))]
    metrics += [
        Metric(f"{average}_{score}", signature(average=average, zero=0, **shown), parts, _averaged(average, score))
        for average in _AVERAGES
        for score in _SCORES
    ]
    if not rows.is_multi_label:
        metrics.append(_mcc(rows, signature(scheme="R_K", unmatched="label", **shown)))
    return metrics


def class_figures(rows: Labelled) -> list[ClassFigures]:
    """One entry a label that occurs in truth or answers, in the order of the labels."""
    both = (rows.wanted * rows.answered).sum(0)
    wanted, answered = rows.wanted.sum(0), rows.answered.sum(0)
    scores = {score: _score(score, both, wanted, answered) for score in _SCORES}
    return [
        ClassFigures(
            label=label,
            precision=float(scores["precision"][place]),
            recall=float(scores["recall"][place]),
            f1=float(scores["f1"][place]),
            support=int(wanted[place]),
        )
        for place, label in enumerate(rows.labels)
        if wanted[place] + answered[place]
    ]


def confusion(rows: Labelled, most: int = CONFUSION_LABELS) -> Confusion:
    """Counts of single labels; of more than `most` those with most mistakes. Raises ValueError for several a row."""
    if rows.is_multi_label:
        raise ValueError("rows with several labels have no confusion of one label with another")
    answered = _with_unmatched(rows.answered)
    counts = np.zeros((len(rows.labels) + 1,) * 2)
    counts[:-1] = rows.wanted.T @ answered
    mistakes = counts.sum(0) + counts.sum(1) - 2 * counts.diagonal()
    # A stable sort: of equally confused labels the first ones.
    chosen = sorted(np.argsort(-mistakes[:-1], kind="stable")[:most].tolist())
    if counts[:, -1].any():
        chosen.append(len(rows.labels))
    names = (*rows.labels, "")
    return Confusion(
        labels=tuple(names[place] for place in chosen),
        counts=tuple(tuple(int(count) for count in counts[place, chosen]) for place in chosen),
    )


def _one_hot(rows: Sequence[Sequence[int]], width: int) -> Floats:
    hot = np.zeros((len(rows), width))
    for place, row in enumerate(rows):
        hot[place, list(row)] = 1.0
    return hot


def _with_unmatched(answered: Floats) -> Floats:
    """[n, C + 1]: the last column holds the answers that are no label."""
    return np.concatenate([answered, 1 - answered.sum(1, keepdims=True)], axis=1)


def _score(score: _Score, both: Floats, wanted: Floats, answered: Floats) -> Floats:
    if score == "precision":
        return divide(both, answered)
    if score == "recall":
        return divide(both, wanted)
    return divide(2 * both, wanted + answered)


def _averaged(average: _Average, score: _Score) -> Callable[[Floats], Floats]:
    """From sums [..., 3 C] of rows right, wanted and answered for each label."""

    def of_sums(sums: Floats) -> Floats:
        both, wanted, answered = np.split(sums, 3, axis=-1)
        if average == "micro":
            return _score(score, both.sum(-1), wanted.sum(-1), answered.sum(-1))
        each = _score(score, both, wanted, answered)
        if average == "weighted":
            return divide((each * wanted).sum(-1), wanted.sum(-1))
        return divide(each.sum(-1), ((wanted + answered) > 0).sum(-1).astype(np.float64))

    return of_sums


def _mcc(rows: Labelled, scheme: str) -> Metric:
    """Gorodkin 2004's R_K (doi 10.1016/j.compbiolchem.2004.09.006); for two labels Matthews' coefficient."""
    width = len(rows.labels)
    parts = np.concatenate(
        [(rows.wanted * rows.answered).sum(1, keepdims=True), rows.wanted, _with_unmatched(rows.answered)], axis=1
    )

    def of_sums(sums: Floats) -> Floats:
        right, wanted, answered = sums[..., 0], sums[..., 1 : width + 1], sums[..., width + 1 :]
        rows_in_all = wanted.sum(-1)
        shared = right * rows_in_all - (wanted * answered[..., :-1]).sum(-1)
        spread_answered = rows_in_all**2 - (answered**2).sum(-1)
        spread_wanted = rows_in_all**2 - (wanted**2).sum(-1)
        return divide(shared, np.sqrt(spread_answered * spread_wanted))

    return Metric("mcc", scheme, parts, of_sums)
