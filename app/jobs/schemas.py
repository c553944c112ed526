"""What a client may ask for when it creates a job: OpenAI's body with OpenAI's bounds."""

import secrets
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.errors import InvalidInput

_Id = Annotated[str, Field(min_length=1, max_length=512)]
Metadata = Annotated[
    dict[Annotated[str, Field(min_length=1, max_length=64)], Annotated[str, Field(max_length=512)]],
    Field(max_length=16),
]
MAX_SEED = 2**31 - 1


class _Body(BaseModel):
    """Strict about types (`"3"` is no number, `true` no 1); fields of newer clients are ignored."""

    model_config = ConfigDict(strict=True, extra="ignore")


class HyperparametersCreate(_Body):
    batch_size: Literal["auto"] | Annotated[int, Field(ge=1, le=256)] | None = None
    learning_rate_multiplier: Literal["auto"] | Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)] | None = (
        None
    )
    n_epochs: Literal["auto"] | Annotated[int, Field(ge=1, le=50)] | None = None


class SupervisedCreate(_Body):
    hyperparameters: HyperparametersCreate | None = None


class MethodCreate(_Body):
    """Blocks of the other types may stand beside it (clients send them) and are ignored."""

    type: Literal["supervised", "dpo", "reinforcement"]
    supervised: SupervisedCreate | None = None


class WandbCreate(_Body):
    project: Annotated[str, Field(min_length=1, max_length=128)]
    name: Annotated[str, Field(max_length=128)] | None = None
    entity: Annotated[str, Field(max_length=128)] | None = None
    tags: Annotated[list[Annotated[str, Field(max_length=64)]], Field(max_length=50)] | None = None


class IntegrationCreate(_Body):
    type: Literal["wandb"]
    wandb: WandbCreate


class JobCreate(_Body):
    model: _Id
    training_file: _Id
    validation_file: _Id | None = None
    suffix: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] | None = None
    metadata: Metadata | None = None
    integrations: Annotated[list[IntegrationCreate], Field(max_length=5)] | None = None
    method: MethodCreate | None = None
    hyperparameters: HyperparametersCreate | None = Field(default=None, description="deprecated: use `method`")
    priority: Literal["low", "normal", "high"] = Field(
        default="normal", description="within your team (an addition of ours)"
    )

    def requested_hyperparameters(self) -> dict[str, Any]:
        """`method` first, then the deprecated field, then `auto`."""
        result: dict[str, Any] = {"batch_size": "auto", "learning_rate_multiplier": "auto", "n_epochs": "auto"}
        blocks = [self.hyperparameters]
        if self.method is not None and self.method.supervised is not None:
            blocks.append(self.method.supervised.hyperparameters)
        for block in blocks:
            if block is not None:
                result.update(block.model_dump(exclude_none=True))
        return result

    def check_method(self) -> None:
        """`InvalidInput` for a method that is not served here."""
        if self.method is not None and self.method.type != "supervised":
            raise InvalidInput(
                f"The fine-tuning method '{self.method.type}' is not available on this server; "
                "use method.type 'supervised'.",
                param="method.type",
                code="unsupported_method",
            )

    def chosen_seed(self) -> int:
        return secrets.randbelow(MAX_SEED + 1) if self.seed is None else self.seed
