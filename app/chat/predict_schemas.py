"""Wire shapes of what callers send to `/v1/models/{model}/predict`: Hugging Face's inference API."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.contracts.predictions import MAX_INPUTS, ScoreFunction


class GenerateParameters(BaseModel):
    """Where Hugging Face's summarization has its settings of generation."""

    model_config = ConfigDict(extra="forbid")

    max_new_tokens: int | None = Field(default=None, ge=1)


class PredictParameters(BaseModel):
    """Each belongs to one task and is refused for another; none is passed over in silence."""

    model_config = ConfigDict(extra="forbid")

    top_k: int | None = Field(default=None, ge=1, description="text-classification: labels in the answer; default all")
    function_to_apply: ScoreFunction | None = Field(
        default=None,
        description="text-classification: from the model's outputs to scores; default softmax, sigmoid if multi-label",
    )
    min_confidence: float | None = Field(
        default=None, ge=0, le=1, description="text-classification: abstain where the likeliest label is less likely"
    )
    max_risk: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="text-classification: abstain so that of the answers no larger share is wrong, as the rows that "
        "calibrated the model show with 95 %",
    )
    return_set: bool | None = Field(
        default=None, description="text-classification: with the set of labels that holds the truth 9 times in 10"
    )
    aggregation_strategy: Literal["simple", "first"] | None = Field(
        default=None, description="token-classification: whole entities, each word by its first token, either way"
    )
    max_new_tokens: int | None = Field(default=None, ge=1, description="summarization: tokens to write; default 256")
    generate_parameters: GenerateParameters | None = Field(
        default=None, description="summarization: another place for max_new_tokens"
    )


class PredictRequest(BaseModel):
    """One text or several; `options` and other fields are ignored."""

    inputs: str | Annotated[list[str], Field(min_length=1, max_length=MAX_INPUTS)]
    parameters: PredictParameters = PredictParameters()
    options: dict[str, Any] | None = None
