"""Evaluation of classifiers and taggers: a linear probe on the frozen base beside the tuned model."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch

from app.contracts.errors import usage
from app.contracts.reports import ClassScores, Evaluation, Latency, ModelScores, Sample, SpanScores
from app.contracts.rows import LabelledText, Row, Span, TaggedText
from workers.engine.evaluation.heldout import Heldout
from workers.engine.evaluation.metrics import percentile
from workers.engine.recipes.head import Probe, probe_logits
from workers.engine.recipes.label_scores import count_spans, macro_f1, span_f1
from workers.engine.recipes.text_classification import TextClassification
from workers.engine.recipes.token_classification import TokenClassification
from workers.engine.training.lora import AdapterWeights, activate
from workers.engine.training.loss import BatchLoss

_SAMPLES = 5
_BASE_IS = "a logistic regression on the frozen base's features, fitted to the training rows"

HeadRecipe = TextClassification | TokenClassification


@dataclass(frozen=True)
class _Judged:
    """One model's answers on all rows, in the order of the rows."""

    nll_sum: float
    correct: float
    count: int
    found: dict[int, Any]  # line → label indices, or spans
    seconds: float


def evaluate_head(heldout: Heldout, adapter: AdapterWeights) -> Evaluation:
    """Probe beside tuned model on the same rows. Usage failure for an adapter of another task."""
    recipe: HeadRecipe = heldout.recipe
    spec, encoded, progress = heldout.spec, heldout.encoded, heldout.progress
    if adapter.task is None or adapter.task.recipe != spec.recipe or adapter.task.labels != spec.labels:
        raise usage("task_differs", f"The adapter '{spec.adapter.id}' was not trained for this task and these labels.")
    run = _Run(heldout)
    timed = encoded.rows[: spec.latency_rows]
    progress.total = 2 * (len(encoded.rows) + len(timed))
    models: dict[str, Callable[[Any], BatchLoss]] = {
        "base": run.probed(Probe(*cast("tuple[torch.Tensor, torch.Tensor]", adapter.probe))),
        "tuned": run.tuned(adapter),
    }
    judged = {name: run.judge(name, model) for name, model in models.items()}
    latency = run.latency(models, timed)
    wanted = heldout.wanted
    return Evaluation(
        run_id=spec.run_id,
        rows=len(encoded.rows),
        base_is=_BASE_IS,
        dropped=encoded.dropped,
        labels=spec.labels,
        base=_scores(recipe, wanted, judged["base"], latency["base"]),
        tuned=_scores(recipe, wanted, judged["tuned"], latency["tuned"]),
        samples=_samples(recipe, wanted, judged["base"], judged["tuned"]),
    )


class _Run:
    """The rows of one evaluation on one resident base."""

    def __init__(self, heldout: Heldout) -> None:
        self._resident = heldout.resident
        self._recipe: HeadRecipe = heldout.recipe
        self._encoded = heldout.encoded
        self._budget = heldout.token_budget
        self._progress = heldout.progress

    def tuned(self, adapter: AdapterWeights) -> Callable[[Any], BatchLoss]:
        def judge(batch: Any) -> BatchLoss:
            with torch.inference_mode(), activate(self._resident.linears, adapter):
                return self._recipe.loss(batch.to(self._resident.device), adapter)

        return judge

    def probed(self, probe: Probe) -> Callable[[Any], BatchLoss]:
        def judge(batch: Any) -> BatchLoss:
            batch = batch.to(self._resident.device)
            with torch.inference_mode(), activate(self._resident.linears, None):
                return self._recipe.judge(batch, probe_logits(probe, self._recipe.features(batch)))

        return judge

    def judge(self, name: str, model: Callable[[Any], BatchLoss]) -> _Judged:
        started = time.monotonic()
        nll = correct = 0.0
        count = 0
        found: dict[int, Any] = {}
        for batch in self._recipe.pack(self._encoded.rows, self._budget):
            loss = model(batch)
            nll += loss.nll_sum.item()
            correct += loss.correct.item()
            count += loss.count
            found |= zip([row.line for row in batch.rows], self._read(batch.rows, loss), strict=True)
            self._progress.advance(len(batch.rows), name)
        return _Judged(nll, correct, count, found, time.monotonic() - started)

    def _read(self, rows: Sequence[Any], loss: BatchLoss) -> list[Any]:
        """What the model says of each row."""
        logits = cast("torch.Tensor", loss.outputs)
        if isinstance(self._recipe, TextClassification):
            return list(self._recipe.chosen(logits))
        return [[span for span, _ in spans] for spans in self._recipe.spans(rows, logits)]

    def latency(self, models: dict[str, Callable[[Any], BatchLoss]], rows: Sequence[Any]) -> dict[str, Latency]:
        """One row at a time from tokens to answer, after a warm-up, the models in turns."""
        times: dict[str, list[float]] = {name: [] for name in models}
        for row in (rows[0], *rows):
            for name, model in models.items():
                (batch,) = self._recipe.pack([row], self._budget)
                started = time.perf_counter()
                self._read(batch.rows, model(batch))
                times[name].append((time.perf_counter() - started) * 1000)
            self._progress.poll()
        self._progress.advance(2 * len(rows), "latency")
        return {
            name: Latency(
                n=len(rows),
                end_to_end_ms_p50=percentile(found[1:], 50),
                end_to_end_ms_p95=percentile(found[1:], 95),
            )
            for name, found in times.items()
        }


def _scores(recipe: HeadRecipe, wanted: Sequence[Row], judged: _Judged, latency: Latency) -> ModelScores:
    is_classifier = isinstance(recipe, TextClassification)
    return ModelScores(
        loss=judged.nll_sum / judged.count,
        token_accuracy=judged.correct / judged.count,
        supervised_tokens=judged.count,
        classification=_class_scores(recipe.labels, wanted, judged) if is_classifier else None,
        spans=None if is_classifier else _span_scores(recipe.labels, wanted, judged),
        latency=latency,
        evaluation_seconds=judged.seconds,
    )


def _class_scores(labels: Sequence[str], wanted: Sequence[Row], judged: _Judged) -> ClassScores:
    index = {label: place for place, label in enumerate(labels)}
    truth = [tuple(index[label] for label in cast("LabelledText", row).labels) for row in wanted]
    found = [judged.found[row.line] for row in wanted]
    correct = sum(set(t) == set(f) for t, f in zip(truth, found, strict=True))
    return ClassScores(
        accuracy=correct / len(truth),
        macro_f1=macro_f1(truth, found),
        correct=correct,
        n=len(truth),
        unmatched=0,
    )


def _span_scores(labels: Sequence[str], wanted: Sequence[Row], judged: _Judged) -> SpanScores:
    pairs = [(cast("TaggedText", row).spans, judged.found[row.line]) for row in wanted]
    expected, predicted, correct = _count(pairs)
    by_label = {
        label: span_f1(*_count([(_of(label, t), _of(label, f)) for t, f in pairs]))
        for label in labels
        if any(_of(label, t) or _of(label, f) for t, f in pairs)
    }
    return SpanScores(
        precision=correct / predicted if predicted else 0.0,
        recall=correct / expected if expected else 0.0,
        f1=span_f1(expected, predicted, correct),
        f1_by_label=by_label,
        expected=expected,
        predicted=predicted,
        correct=correct,
    )


def _count(pairs: Sequence[tuple[Sequence[Span], Sequence[Span]]]) -> tuple[int, int, int]:
    totals = np.sum([count_spans(truth, found) for truth, found in pairs], axis=0)
    expected, predicted, correct = (int(total) for total in totals)
    return expected, predicted, correct


def _of(label: str, spans: Sequence[Span]) -> list[Span]:
    return [span for span in spans if span.label == label]


def _samples(recipe: HeadRecipe, wanted: Sequence[Row], base: _Judged, tuned: _Judged) -> tuple[Sample, ...]:
    """A few rows spread over the file."""
    count = min(_SAMPLES, len(wanted))
    samples = []
    for row in (cast("LabelledText | TaggedText", wanted[place * len(wanted) // count]) for place in range(count)):
        if isinstance(row, LabelledText):
            truth: str = ", ".join(row.labels)
            texts = [", ".join(recipe.labels[i] for i in found[row.line]) for found in (base.found, tuned.found)]
        else:
            truth = _show(row.text, row.spans)
            texts = [_show(row.text, found[row.line]) for found in (base.found, tuned.found)]
        samples.append(Sample(line=row.line, prompt=row.text, expected=truth, base=texts[0], tuned=texts[1]))
    return tuple(samples)


def _show(text: str, spans: Sequence[Span]) -> str:
    return "; ".join(f"{text[span.start : span.end]} [{span.label}]" for span in spans) or "none"
