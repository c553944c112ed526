"""What the serving process answers for models that label or rewrite a text: one POST to `/predict`, one body back."""

from typing import Annotated, Literal

from pydantic import Field

from app.contracts.base import Contract
from app.contracts.specs import AdapterRef, BaseRef

MAX_INPUTS = 256
ScoreFunction = Literal["softmax", "sigmoid", "none"]


class PredictSpec(Contract):
    """Texts for a tuned model whose recipe is a classification or `summarization` on an encoder-decoder."""

    kind: Literal["predict"] = "predict"
    base: BaseRef
    adapter: AdapterRef
    inputs: tuple[str, ...] = Field(min_length=1, max_length=MAX_INPUTS)
    max_new_tokens: int = Field(default=256, ge=1, description="of a model that writes text")
    function: ScoreFunction | None = Field(
        default=None,
        description="from a text classifier's outputs to its scores; None: softmax, sigmoid where it is multi-label",
    )
    min_confidence: float | None = Field(
        default=None, ge=0, le=1, description="a classifier of one label abstains where it is less sure"
    )
    max_risk: float | None = Field(
        default=None, gt=0, lt=1, description="the same, from the confidence on that was shown to be wrong less often"
    )
    returns_set: bool = Field(default=False, description="with the set of labels that holds the truth 9 times in 10")


class LabelScore(Contract):
    """A label with its probability, or what another `function` makes of it."""

    label: str
    score: float


class Labels(Contract):
    """Every label with its probability, most likely first; `chosen` is what the model answers: nothing, if it abstains.

    A conformal set may be empty: no label was likely enough.
    """

    kind: Literal["labels"] = "labels"
    scores: tuple[LabelScore, ...]
    chosen: tuple[str, ...]
    abstained: bool = False
    conformal_set: tuple[str, ...] | None = Field(default=None, description="where it was asked for")


class ScoredSpan(Contract):
    """An entity: characters [start, end) of the input, with the mean probability of its words' tags."""

    start: int
    end: int
    label: str
    text: str
    score: float


class Entities(Contract):
    kind: Literal["entities"] = "entities"
    spans: tuple[ScoredSpan, ...]


class Written(Contract):
    kind: Literal["text"] = "text"
    text: str
    finish_reason: Literal["stop", "length"]


Prediction = Annotated[Labels | Entities | Written, Field(discriminator="kind")]


class Predictions(Contract):
    """One prediction for each input, in their order."""

    predictions: tuple[Prediction, ...]
    input_tokens: int
    output_tokens: int = Field(description="tokens written; 0 for models that write none")
    truncated: tuple[int, ...] = Field(default=(), description="inputs that were longer than the model reads, and cut")
    temperature: float | None = Field(
        default=None, description="by which a classifier's logits were divided before a softmax; 1 as trained"
    )
    min_confidence: float | None = Field(default=None, description="below which it abstained; None: nowhere")
    total_ms: float
