"""`training`: our additive block of a job's body, with bounds. Every field may be left out or be "auto"."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

_Auto = Literal["auto"]
_TargetName = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9_.]+$")]


class EarlyStoppingCreate(BaseModel):
    """End the run when so many checks in a row bring nothing better."""

    model_config = ConfigDict(strict=True, extra="forbid")

    patience: Annotated[int, Field(ge=1, le=100)] = 3
    min_delta: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False, description="nats of validation loss")] = 0.0


class TrainingCreate(BaseModel):
    """Unknown fields are refused: a misspelt setting must not pass as its default."""

    model_config = ConfigDict(strict=True, extra="forbid")

    adapter: Literal["auto", "lora", "rslora", "dora", "none"] | None = Field(
        default=None, description="none trains every weight of the base (full fine-tuning)"
    )
    rank: _Auto | Annotated[int, Field(ge=1, le=512)] | None = None
    alpha: _Auto | Annotated[float, Field(gt=0, le=4096, allow_inf_nan=False)] | None = Field(
        default=None, description="the adapter's scale is alpha/rank (rslora: alpha/sqrt(rank))"
    )
    dropout: _Auto | Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] | None = None
    targets: Literal["auto", "all-linear"] | Annotated[list[_TargetName], Field(min_length=1, max_length=64)] | None = (
        Field(default=None, description="names of linear layers, as the base's weights call them")
    )
    quantization: Literal["auto", "none", "nf4"] | None = Field(
        default=None, description="nf4 keeps the base in 4 bits (QLoRA; needs a GPU)"
    )
    learning_rate: _Auto | Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = Field(
        default=None, description="the peak rate itself, in place of learning_rate_multiplier"
    )
    schedule: Literal["auto", "linear", "cosine", "constant"] | None = None
    warmup_fraction: _Auto | Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] | None = None
    weight_decay: _Auto | Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = None
    max_grad_norm: _Auto | Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)] | None = None
    max_length: _Auto | Annotated[int, Field(ge=8, le=2**31 - 1)] | None = Field(
        default=None, description="tokens a row may have"
    )
    early_stopping: _Auto | Literal[False] | EarlyStoppingCreate | None = None
    keeps_best: _Auto | bool | None = Field(default=None, description="the result is the best checkpoint, not the last")
    keep_checkpoints: _Auto | Annotated[int, Field(ge=1, le=50)] | None = None
    valid_every_steps: _Auto | Annotated[int, Field(ge=1, le=1_000_000)] | None = None


SETTINGS = tuple(TrainingCreate.model_fields)


def as_asked(block: TrainingCreate | None) -> dict[str, Any]:
    """Every setting by its name, "auto" where nothing was asked for: what a job stores until it is validated."""
    asked = {} if block is None else block.model_dump(mode="json", exclude_none=True)
    return {name: asked.get(name, "auto") for name in SETTINGS}
