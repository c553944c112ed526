"""What a classifier or tagger is found to be worth, from its answers to held-out rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch

from app.contracts.figures import Calibration
from app.contracts.reports import ClassScores, Latency, ModelScores, Sample, SpanScores
from app.contracts.rows import LabelledText, Row, Span, TaggedText
from workers.engine.evaluation.calibration import calibration
from workers.engine.evaluation.decisions import COST
from workers.engine.evaluation.judgement import Rival, figures
from workers.engine.evaluation.metrics.classes import Labelled, class_figures, class_metrics, confusion, labelled
from workers.engine.evaluation.metrics.signature import signature
from workers.engine.evaluation.metrics.spans import span_label_figures, span_metrics
from workers.engine.evaluation.naive_bayes import NaiveBayes
from workers.engine.evaluation.statistics.metric import Floats, Metric
from workers.engine.evaluation.statistics.quantiles import latency_figures
from workers.engine.recipes.text_classification import TextClassification
from workers.engine.recipes.token_classification import TokenClassification

_SAMPLES = 5

HeadRecipe = TextClassification | TokenClassification


@dataclass(frozen=True)
class Judged:
    """One model's answers on all rows, in the order of the rows."""

    nll_sum: float
    correct: float
    count: int
    found: dict[int, Any]  # line → label indices, or spans
    logits: dict[int, torch.Tensor]  # line → [C]; of a classifier with one label a row
    seconds: float


@dataclass(frozen=True)
class Temperature:
    """By which logits are divided, and the rows that say so."""

    value: float
    fitted_on: str
    conformal_threshold: float | None = None


def head_metrics(recipe: HeadRecipe, wanted: Sequence[Row], judged: Judged) -> list[Metric]:
    """All figures of the task."""
    if isinstance(recipe, TextClassification):
        return class_metrics(_labelled(recipe, wanted, judged))
    return span_metrics(*_spans(wanted, judged))


def head_scores(
    recipe: HeadRecipe,
    wanted: Sequence[Row],
    judged: Judged,
    *,
    metrics: Sequence[Metric],
    temperature: Temperature,
    latency: Latency,
    seed: int,
) -> ModelScores:
    """One model's entry in the evaluation."""
    by_name = {metric.name: metric.value for metric in metrics}
    scores = ModelScores(
        loss=judged.nll_sum / judged.count,
        token_accuracy=judged.correct / judged.count,
        supervised_tokens=judged.count,
        figures=(
            *figures(metrics, seed=seed),
            *latency_figures(latency.end_to_end_ms, signature=signature(at_once=1, answer="label")),
        ),
        latency=latency,
        evaluation_seconds=judged.seconds,
    )
    if isinstance(recipe, TextClassification):
        rows = _labelled(recipe, wanted, judged)
        update: dict[str, Any] = {
            "classification": ClassScores(
                accuracy=by_name["accuracy"],
                macro_f1=by_name["macro_f1"],
                correct=int(rows.hits.sum()),
                n=len(wanted),
                unmatched=0,
            ),
            "classes": tuple(class_figures(rows)),
            "confusion": None if rows.is_multi_label else confusion(rows),
            "calibration": _calibration(recipe, wanted, judged, temperature),
        }
    else:
        update = {"spans": _span_scores(wanted, judged, by_name), "classes": _span_classes(wanted, judged)}
    return scores.model_copy(update=update)


def single_labels(recipe: HeadRecipe, wanted: Sequence[Row], judged: Judged) -> tuple[Floats, npt.NDArray[np.intp]]:
    """Logits [n, C] and truth [n] of a classifier with one label a row."""
    logits = torch.stack([judged.logits[row.line] for row in wanted]).double().numpy()
    return logits, np.array([labels[0] for labels in _truth(recipe, wanted)])


def majority(recipe: TextClassification, wanted: Sequence[Row]) -> Rival:
    """Always the most frequent label: of the held-out rows themselves, so no such rule does better."""
    truth = _truth(recipe, wanted)
    answers = sorted(truth)
    most = max(answers, key=answers.count)
    rows = labelled(recipe.labels, truth, [most] * len(truth), is_multi_label=recipe.is_multi_label)
    name = ", ".join(recipe.labels[place] for place in most) or "no label"
    description = f"always the most frequent answer of the held-out rows: {name}"
    return Rival("majority", description, class_metrics(rows), lacks=[COST])


def words_alone(recipe: TextClassification, wanted: Sequence[Row], trained: Sequence[Row]) -> Rival:
    """Naive Bayes on the words of the training rows; rows that have not exactly one label teach it nothing."""
    index = {label: place for place, label in enumerate(recipe.labels)}
    known = [
        (row.text, index[row.labels[0]])
        for row in cast("Sequence[LabelledText]", trained)
        if len(row.labels) == 1 and row.labels[0] in index
    ]
    model = NaiveBayes([text for text, _ in known], [label for _, label in known])
    found = [(model.label(cast("LabelledText", row).text),) for row in wanted]
    rows = labelled(recipe.labels, _truth(recipe, wanted), found, is_multi_label=False)
    description = (
        f"multinomial naive Bayes on the words and word pairs of {len(known):,} training rows: no model at all"
    )
    return Rival("naive Bayes on words", description, class_metrics(rows), lacks=[COST])


def head_samples(recipe: HeadRecipe, wanted: Sequence[Row], base: Judged, tuned: Judged) -> tuple[Sample, ...]:
    """A few rows spread over the file."""
    count = min(_SAMPLES, len(wanted))
    samples = []
    for row in (cast("LabelledText | TaggedText", wanted[place * len(wanted) // count]) for place in range(count)):
        truth = ", ".join(row.labels) if isinstance(row, LabelledText) else _show(row.text, row.spans)
        texts = [shown(recipe, row, found[row.line]) for found in (base.found, tuned.found)]
        samples.append(Sample(line=row.line, prompt=row.text, expected=truth, base=texts[0], tuned=texts[1]))
    return tuple(samples)


def shown(recipe: HeadRecipe, row: Row, found: Any) -> str:
    """An answer as people read it: labels, or entities with their words."""
    if isinstance(row, TaggedText):
        return _show(row.text, found)
    return ", ".join(recipe.labels[place] for place in found)


def _truth(recipe: HeadRecipe, wanted: Sequence[Row]) -> list[tuple[int, ...]]:
    index = {label: place for place, label in enumerate(recipe.labels)}
    return [tuple(index[label] for label in cast("LabelledText", row).labels) for row in wanted]


def _labelled(recipe: TextClassification, wanted: Sequence[Row], judged: Judged) -> Labelled:
    found = [judged.found[row.line] for row in wanted]
    return labelled(recipe.labels, _truth(recipe, wanted), found, is_multi_label=recipe.is_multi_label)


def _calibration(
    recipe: TextClassification, wanted: Sequence[Row], judged: Judged, temperature: Temperature
) -> Calibration | None:
    if not judged.logits:
        return None
    return calibration(
        *single_labels(recipe, wanted, judged),
        temperature=temperature.value,
        fitted_on=temperature.fitted_on,
        threshold=temperature.conformal_threshold,
    )


def _spans(wanted: Sequence[Row], judged: Judged) -> tuple[list[Sequence[Span]], list[Sequence[Span]]]:
    return [cast("TaggedText", row).spans for row in wanted], [judged.found[row.line] for row in wanted]


def _span_classes(wanted: Sequence[Row], judged: Judged) -> tuple[Any, ...]:
    return tuple(span_label_figures(*_spans(wanted, judged)))


def _span_scores(wanted: Sequence[Row], judged: Judged, by_name: dict[str, float]) -> SpanScores:
    truth, found = _spans(wanted, judged)
    pairs = [({*t}, {*f}) for t, f in zip(truth, found, strict=True)]
    return SpanScores(
        precision=by_name["span_precision"],
        recall=by_name["span_recall"],
        f1=by_name["span_f1"],
        f1_by_label={one.label: one.f1 for one in _span_classes(wanted, judged)},
        expected=sum(len(t) for t, _ in pairs),
        predicted=sum(len(f) for _, f in pairs),
        correct=sum(len(t & f) for t, f in pairs),
    )


def _show(text: str, spans: Sequence[Span]) -> str:
    return "; ".join(f"{text[span.start : span.end]} [{span.label}]" for span in spans) or "none"
