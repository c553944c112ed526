"""What `/predict` answers: labels and entities from models with a head."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from app.contracts.errors import usage
from app.contracts.predictions import (
    Entities,
    Labels,
    LabelScore,
    Prediction,
    Predictions,
    ScoredSpan,
    ScoreFunction,
)
from app.contracts.rows import Span
from app.contracts.specs import AdapterTask
from workers.engine.base_model import ResidentBase
from workers.engine.recipes.head import head_logits
from workers.engine.recipes.open import open_recipe
from workers.engine.recipes.recipe import Poll
from workers.engine.recipes.text_classification import TextClassification
from workers.engine.recipes.texts import PackedTexts
from workers.engine.recipes.token_classification import TokenClassification
from workers.engine.training.lora import AdapterWeights, activate

Classifier = TextClassification | TokenClassification
DEFAULT_NEW_TOKENS = 256
_CPU_TOKEN_BUDGET, _GPU_TOKEN_BUDGET = 2048, 16_384
_CHARACTERS_PER_STEP = 16_384  # a few milliseconds of a tokenizer's work
# No text has so many in each token from end to end: of a longer one, only as much is read as can matter.
_CHARACTERS_PER_TOKEN = 40
_SCORES: dict[ScoreFunction, Callable[[Tensor], Tensor]] = {
    "softmax": lambda logits: logits.softmax(1),
    "sigmoid": torch.sigmoid,
    "none": lambda logits: logits,
}


class PredictionRun(Protocol):
    """The answer to some texts, worked out in steps short enough to let others in between."""

    @property
    def is_done(self) -> bool: ...

    def step(self, poll: Poll) -> None:
        """The next part of the work; `poll` may raise to end it."""
        ...

    def predictions(self, *, since: float) -> Predictions:
        """Once it is done. `since` is the moment (`time.monotonic`) its time counts from."""
        ...


def predict(
    resident: ResidentBase,
    adapter: AdapterWeights,
    inputs: Sequence[str],
    *,
    max_new_tokens: int = DEFAULT_NEW_TOKENS,
    function: ScoreFunction | None = None,
    poll: Poll = lambda: None,
) -> Predictions:
    """What the tuned model says of each text; usage failure `unsupported_task` where it is a chat model."""
    since = time.monotonic()
    run = open_run(resident, adapter, inputs, max_new_tokens=max_new_tokens, function=function)
    while not run.is_done:
        poll()
        run.step(poll)
    return run.predictions(since=since)


def open_run(
    resident: ResidentBase,
    adapter: AdapterWeights,
    inputs: Sequence[str],
    *,
    max_new_tokens: int,
    function: ScoreFunction | None = None,
) -> PredictionRun:
    """The work of `predict`, not begun."""
    classifier = _open_classifier(resident, adapter.task or AdapterTask(recipe="chat"))
    return HeadRun(classifier, adapter, inputs, function)


def _open_classifier(resident: ResidentBase, task: AdapterTask) -> Classifier:
    if task.recipe not in {"text_classification", "token_classification"}:
        raise usage(
            "unsupported_task",
            "This model was tuned for conversations and has nothing to predict; ask it with messages.",
            param="model",
        )
    recipe = open_recipe(resident, task.recipe, labels=task.labels, is_multi_label=task.is_multi_label)
    return cast("Classifier", recipe)


class HeadRun:
    """Texts through a model with a head, one packed batch a step."""

    def __init__(
        self,
        classifier: Classifier,
        adapter: AdapterWeights,
        inputs: Sequence[str],
        function: ScoreFunction | None,
    ) -> None:
        self._classifier = classifier
        self._adapter = adapter
        self._inputs = tuple(inputs)
        self._function = function
        self._rows: list[Any] = []  # of the texts read so far, in their order
        self._batches: deque[PackedTexts[Any]] = deque()
        self._found: dict[int, Prediction] = {}

    @property
    def is_done(self) -> bool:
        return len(self._found) == len(self._inputs)

    def step(self, poll: Poll) -> None:  # noqa: ARG002 every step is short
        if len(self._rows) < len(self._inputs):
            self._read_texts()
        if self._batches:
            self._predict_batch()

    def _read_texts(self) -> None:
        """Encode some texts; after the last, all are packed."""
        characters = 0
        while characters < _CHARACTERS_PER_STEP and len(self._rows) < len(self._inputs):
            text = self._inputs[len(self._rows)]
            row = self._encode(text)
            if row.tokens == 0:
                message = f"Text {row.line} has nothing in it that this model reads."
                raise usage("empty_input", message, param="inputs")
            self._rows.append(row)
            characters += len(text)
        if len(self._rows) == len(self._inputs):
            is_cpu = self._classifier.resident.device.type == "cpu"
            budget = _CPU_TOKEN_BUDGET if is_cpu else _GPU_TOKEN_BUDGET
            self._batches.extend(self._classifier.pack(self._rows, budget))

    def _encode(self, text: str) -> Any:
        """The next row. Its line is the number of its text: packing puts rows in another order."""
        limit, line = self._classifier.resident.ref.context_length, len(self._rows) + 1
        start = text[: limit * _CHARACTERS_PER_TOKEN]
        row = self._classifier.encode_text(start, limit, line=line)
        if row.is_truncated or start == text:
            return row
        return self._classifier.encode_text(text, limit, line=line)

    def _predict_batch(self) -> None:
        resident = self._classifier.resident
        batch = self._batches.popleft().to(resident.device)
        with torch.inference_mode(), activate(resident.linears, self._adapter):
            logits = head_logits(self._adapter, self._classifier.features(cast("Any", batch))).cpu()
        for row, prediction in zip(batch.rows, self._read(batch.rows, logits), strict=True):
            self._found[row.line - 1] = prediction

    def predictions(self, *, since: float) -> Predictions:
        return Predictions(
            predictions=tuple(self._found[place] for place in range(len(self._inputs))),
            input_tokens=sum(row.tokens for row in self._rows),
            output_tokens=0,
            truncated=tuple(row.line - 1 for row in self._rows if row.is_truncated),
            total_ms=(time.monotonic() - since) * 1000,
        )

    def _read(self, rows: Sequence[Any], logits: Tensor) -> Sequence[Prediction]:
        if isinstance(self._classifier, TextClassification):
            return _labels(self._classifier, logits, self._function)
        found = self._classifier.spans(rows, logits)
        return [_entities(self._inputs[row.line - 1], spans) for row, spans in zip(rows, found, strict=True)]


def _labels(classifier: TextClassification, logits: Tensor, function: ScoreFunction | None) -> list[Labels]:
    """Logits [texts, labels] as labels with scores, most likely first."""
    scores = _SCORES[function or ("sigmoid" if classifier.is_multi_label else "softmax")](logits)
    found = []
    for order, row, values in zip(
        logits.sort(dim=1, descending=True, stable=True).indices.tolist(), logits.tolist(), scores.tolist(), strict=True
    ):
        # A logit above 0 is a probability above one half.
        chosen = [place for place in order if row[place] > 0] if classifier.is_multi_label else order[:1]
        found.append(
            Labels(
                scores=tuple(LabelScore(label=classifier.labels[place], score=values[place]) for place in order),
                chosen=tuple(classifier.labels[place] for place in chosen),
            )
        )
    return found


def _entities(text: str, spans: Sequence[tuple[Span, float]]) -> Entities:
    return Entities(
        spans=tuple(
            ScoredSpan(start=span.start, end=span.end, label=span.label, text=text[span.start : span.end], score=score)
            for span, score in spans
        )
    )
