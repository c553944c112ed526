"""Labels and entities from models with a head: forward passes only, packed, one batch a step."""

import time
from collections import deque
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor

from app.contracts.errors import usage
from app.contracts.predictions import (
    Entities,
    Prediction,
    Predictions,
    ScoredSpan,
)
from app.contracts.rows import Span
from workers.engine.inference.label_rule import Answering, LabelRule
from workers.engine.inference.reading import read_some, truncated_places
from workers.engine.recipes.head import head_logits
from workers.engine.recipes.text_classification import TextClassification
from workers.engine.recipes.texts import PackedTexts
from workers.engine.recipes.token_classification import TokenClassification
from workers.engine.training.lora import AdapterWeights, activate

Classifier = TextClassification | TokenClassification
_CPU_TOKEN_BUDGET, _GPU_TOKEN_BUDGET = 2048, 16_384


class HeadRun:
    """Keeps the contract of `PredictionRun`. `rule` is how a text classifier answers; usage failure where it cannot."""

    def __init__(self, classifier: Classifier, adapter: AdapterWeights, inputs: Sequence[str], rule: LabelRule) -> None:
        self._classifier = classifier
        self._adapter = adapter
        self._inputs = tuple(inputs)
        self._answering = None
        if isinstance(classifier, TextClassification):
            calibration = None if adapter.task is None else adapter.task.calibration
            self._answering = Answering(classifier, calibration, rule)
        self._rows: list[Any] = []  # of the texts read so far, in their order
        self._batches: deque[PackedTexts[Any]] = deque()
        self._found: dict[int, Prediction] = {}

    @property
    def is_done(self) -> bool:
        return len(self._found) == len(self._inputs)

    def step(self) -> None:
        if len(self._rows) < len(self._inputs):
            self._read_texts()
        if self._batches:
            self._predict_batch()

    def predictions(self, *, since: float) -> Predictions:
        return Predictions(
            predictions=tuple(self._found[place] for place in range(len(self._inputs))),
            input_tokens=sum(row.tokens for row in self._rows),
            output_tokens=0,
            truncated=truncated_places(self._rows),
            temperature=None if self._answering is None else self._answering.temperature,
            min_confidence=None if self._answering is None else self._answering.min_confidence,
            total_ms=(time.monotonic() - since) * 1000,
        )

    def _read_texts(self) -> None:
        """Encode some texts; after the last, all are packed."""
        read_some(self._inputs, self._rows, self._classifier.resident.ref.context_length, self._encode)
        if len(self._rows) == len(self._inputs):
            is_cpu = self._classifier.resident.device.type == "cpu"
            budget = _CPU_TOKEN_BUDGET if is_cpu else _GPU_TOKEN_BUDGET
            self._batches.extend(self._classifier.pack(self._rows, budget))

    def _encode(self, text: str, place: int) -> Any:
        """A row whose line is the number of its text: packing puts rows in another order."""
        limit = self._classifier.resident.ref.context_length
        row = self._classifier.encode_text(text, limit, line=place + 1)
        if row.tokens == 0:
            raise usage("empty_input", f"Text {place + 1} has nothing in it that this model reads.", param="inputs")
        return row

    def _predict_batch(self) -> None:
        resident = self._classifier.resident
        batch = self._batches.popleft().to(resident.device)
        with torch.inference_mode(), activate(resident.linears, self._adapter):
            logits = head_logits(self._adapter, self._classifier.features(cast("Any", batch))).cpu()
        for row, prediction in zip(batch.rows, self._read(batch.rows, logits), strict=True):
            self._found[row.line - 1] = prediction

    def _read(self, rows: Sequence[Any], logits: Tensor) -> Sequence[Prediction]:
        if self._answering is not None:
            return self._answering.labels(logits)
        found = cast("TokenClassification", self._classifier).spans(rows, logits)
        return [_entities(self._inputs[row.line - 1], spans) for row, spans in zip(rows, found, strict=True)]


def _entities(text: str, spans: Sequence[tuple[Span, float]]) -> Entities:
    return Entities(
        spans=tuple(
            ScoredSpan(start=span.start, end=span.end, label=span.label, text=text[span.start : span.end], score=score)
            for span, score in spans
        )
    )
