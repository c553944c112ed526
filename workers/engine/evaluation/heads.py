"""Evaluation of classifiers and taggers: a linear probe on the frozen base beside the tuned model."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from app.contracts.costs import Costs
from app.contracts.errors import usage
from app.contracts.reports import Evaluation, Latency
from app.contracts.rows import LabelledText
from workers.engine.evaluation.calibration import fit_temperature
from workers.engine.evaluation.decisions import COST, Priced, price
from workers.engine.evaluation.head_scores import (
    HeadRecipe,
    Judged,
    Temperature,
    head_metrics,
    head_samples,
    head_scores,
    majority,
    single_labels,
    words_alone,
)
from workers.engine.evaluation.heldout import Heldout
from workers.engine.evaluation.judgement import Rival, judge
from workers.engine.evaluation.metrics import percentile
from workers.engine.recipes.head import Probe, probe_logits
from workers.engine.recipes.rows import read_rows
from workers.engine.recipes.text_classification import TextClassification
from workers.engine.training.lora import AdapterWeights, activate
from workers.engine.training.loss import BatchLoss

_BASE_NAME = "logistic regression on the frozen base"
_BASE_IS = "a logistic regression on the frozen base's features, fitted to the training rows"


def evaluate_head(heldout: Heldout, adapter: AdapterWeights) -> Evaluation:
    """Probe beside tuned model on the same rows. Usage failure for an adapter of another task."""
    recipe: HeadRecipe = heldout.recipe
    spec, encoded, progress = heldout.spec, heldout.encoded, heldout.progress
    is_text = isinstance(recipe, TextClassification)
    run = HeadRun(heldout)
    timed = encoded.rows[: spec.latency_rows]
    progress.total = 2 * (len(encoded.rows) + len(timed))
    models: dict[str, Callable[[Any], BatchLoss]] = {"base": run.base(adapter), "tuned": run.tuned(adapter)}
    judged = {name: run.judge(name, model) for name, model in models.items()}
    temperatures = {
        "base": run.temperature(models["base"], spec.calibration_rows)
        if heldout.against is None
        else _stored_temperature(heldout.against),
        "tuned": _stored_temperature(adapter),
    }
    latency = run.latency(models, timed)
    wanted = heldout.wanted
    metrics = {name: head_metrics(recipe, wanted, found) for name, found in judged.items()}
    priced = {name: _price(heldout, judged[name], temperatures[name]) for name in models} if spec.costs else {}
    for name, found in priced.items():
        metrics[name].append(found.metric)
    judgement = judge(
        metrics["base"],
        metrics["tuned"],
        decides="macro_f1" if is_text else "span_f1",
        beside=["accuracy", *([COST] if priced else [])] if is_text else ["span_f1_partial"],
        rivals=_rivals(heldout) if is_text else [],
        base_name=heldout.base_is,
        base_is_cheap=_BASE_NAME if heldout.against is None else None,
        seed=spec.seed,
    )
    base, tuned = (
        head_scores(
            recipe,
            wanted,
            judged[name],
            metrics=metrics[name],
            temperature=temperatures[name],
            latency=latency[name],
            seed=spec.seed,
        ).model_copy(update={"decisions": priced[name].decisions if priced else None})
        for name in models
    )
    return Evaluation(
        run_id=spec.run_id,
        rows=len(encoded.rows),
        base_is=_BASE_IS,
        dropped=encoded.dropped,
        labels=spec.labels,
        base=base,
        tuned=tuned,
        samples=head_samples(recipe, wanted, judged["base"], judged["tuned"]),
        judgement=judgement,
    )


def _rivals(heldout: Heldout) -> list[Rival]:
    """The cheap answers to a classifier's task."""
    recipe, wanted, spec = cast("TextClassification", heldout.recipe), heldout.wanted, heldout.spec
    rivals = [majority(recipe, wanted)]
    if spec.train_rows is not None and not recipe.is_multi_label:
        rivals.append(words_alone(recipe, wanted, read_rows(Path(spec.train_rows), spec.recipe)))
    return rivals


def _stored_temperature(adapter: AdapterWeights) -> Temperature:
    stored = None if adapter.task is None else adapter.task.calibration
    if stored is None:
        return Temperature(1.0, "none is stored with the adapter: as trained")
    rows = f"{stored.rows} rows that chose the checkpoint, not held out"
    return Temperature(stored.temperature, rows, stored.conformal_threshold)


def _price(heldout: Heldout, judged: Judged, temperature: Temperature) -> Priced:
    """What this model's decisions cost; usage failure where the task, or its labels, are not those of the costs."""
    costs = cast("Costs", heldout.spec.costs)
    if not judged.logits:
        raise usage("costs_misfit", "Costs are for classifiers with one label a text.", param="costs")
    try:
        logits, truth = single_labels(heldout.recipe, heldout.wanted, judged)
        return price(logits, truth, temperature.value, heldout.recipe.labels, costs)
    except ValueError as error:
        raise usage("costs_misfit", f"The {error}", param="costs") from error


class HeadRun:
    """The rows of one evaluation on one resident base."""

    def __init__(self, heldout: Heldout) -> None:
        self._resident = heldout.resident
        self._against = heldout.against
        self._recipe: HeadRecipe = heldout.recipe
        self._encoded = heldout.encoded
        self._recipe_name = heldout.spec.recipe
        self._max_length = heldout.spec.max_length
        self._budget = heldout.token_budget
        self._progress = heldout.progress

    def base(self, tuned: AdapterWeights) -> Callable[[Any], BatchLoss]:
        """What stands beside the tuned model: an earlier one, else the probe it began from."""
        if self._against is not None:
            return self.tuned(self._against)
        return self.probed(Probe(*cast("tuple[torch.Tensor, torch.Tensor]", tuned.probe)))

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

    def judge(self, name: str, model: Callable[[Any], BatchLoss]) -> Judged:
        started = time.monotonic()
        nll = correct = 0.0
        count = 0
        found: dict[int, Any] = {}
        logits: dict[int, torch.Tensor] = {}
        for batch in self._recipe.pack(self._encoded.rows, self._budget):
            loss = model(batch)
            nll += loss.nll_sum.item()
            correct += loss.correct.item()
            count += loss.count
            found |= zip([row.line for row in batch.rows], self._read(batch.rows, loss), strict=True)
            logits |= self._logits(batch.rows, loss)
            self._progress.advance(len(batch.rows), name)
        return Judged(nll, correct, count, found, logits, time.monotonic() - started)

    def _read(self, rows: Sequence[Any], loss: BatchLoss) -> list[Any]:
        """What the model says of each row."""
        logits = cast("torch.Tensor", loss.outputs)
        if isinstance(self._recipe, TextClassification):
            return list(self._recipe.chosen(logits))
        return [[span for span, _ in spans] for spans in self._recipe.spans(rows, logits)]

    def _logits(self, rows: Sequence[Any], loss: BatchLoss) -> dict[int, torch.Tensor]:
        """Of a classifier with one label a row: line → logits [C]."""
        if not isinstance(self._recipe, TextClassification) or self._recipe.is_multi_label:
            return {}
        outputs = cast("torch.Tensor", loss.outputs).float().cpu()
        return dict(zip((row.line for row in rows), outputs, strict=True))

    def temperature(self, model: Callable[[Any], BatchLoss], path: str | None) -> Temperature:
        """From rows that are not judged; 1 where there are none, or none with one label each."""
        plain = Temperature(1.0, "no rows: as trained")
        if path is None or not isinstance(self._recipe, TextClassification) or self._recipe.is_multi_label:
            return plain
        rows = read_rows(Path(path), self._recipe_name)
        encoded = self._recipe.encode(rows, max_length=self._max_length, on_progress=lambda _done: None).rows
        if not encoded:
            return plain
        index = {label: place for place, label in enumerate(self._recipe.labels)}
        truth = {row.line: index[row.labels[0]] for row in cast("Sequence[LabelledText]", rows)}
        logits: dict[int, torch.Tensor] = {}
        for batch in self._recipe.pack(encoded, self._budget):
            logits |= self._logits(batch.rows, model(batch))
            self._progress.poll()
        values = torch.stack([logits[row.line] for row in encoded]).double().numpy()
        fitted = fit_temperature(values, np.array([truth[row.line] for row in encoded]))
        return Temperature(fitted, f"{len(encoded)} rows that chose the checkpoint, not held out")

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
                end_to_end_ms=tuple(found[1:]),
            )
            for name, found in times.items()
        }
