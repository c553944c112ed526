"""What a client may ask for when it creates a job: OpenAI's body with OpenAI's bounds."""

import secrets
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.contracts.costs import Costs
from app.contracts.requirements import Expectation
from app.datasets.tasks import Task
from app.errors import InvalidInput
from app.jobs.training_settings import TrainingCreate

_Id = Annotated[str, Field(min_length=1, max_length=512)]
Metadata = Annotated[
    dict[Annotated[str, Field(min_length=1, max_length=64)], Annotated[str, Field(max_length=512)]],
    Field(max_length=16),
]
Expectations = Annotated[
    list[Annotated[Expectation, Field(strict=False)]],
    Field(min_length=1, max_length=200, description="examples of yours that the tuned model must answer as you expect"),
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


class DpoHyperparametersCreate(HyperparametersCreate):
    beta: Literal["auto"] | Annotated[float, Field(gt=0, le=2, allow_inf_nan=False)] | None = None


class DpoCreate(_Body):
    hyperparameters: DpoHyperparametersCreate | None = None


class MethodCreate(_Body):
    """Blocks of the other types may stand beside it (clients send them) and are ignored."""

    type: Literal["supervised", "dpo", "reinforcement"]
    supervised: SupervisedCreate | None = None
    dpo: DpoCreate | None = None

    @model_validator(mode="before")
    @classmethod
    def _ignore_other_types(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        others = {"supervised", "dpo", "reinforcement"}
        return {name: block for name, block in value.items() if name not in others or name == value.get("type")}


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
    # Additions of ours.
    priority: Literal["low", "normal", "high"] = Field(default="normal", description="within your team")
    task: Annotated[Task, Field(strict=False)] | None = Field(
        default=None, description="inferred from the rows if left out"
    )
    training: TrainingCreate | None = Field(default=None, description='settings beyond OpenAI\'s; each may be "auto"')

    requirements: Annotated[str, Field(min_length=1, max_length=4000)] | None = Field(
        default=None,
        description="what the tuned model must reach, one requirement a line: macro_f1 >= 0.85, p95_ms <= 300 ms",
    )

    expectations: Expectations | None = None
    costs: Costs | None = Field(
        default=None,
        description="text-classification, one label a text: what mistakes cost; the evaluation says what a thousand "
        "decisions of least expected cost would, of base and tuned model",
    )

    @property
    def is_dpo(self) -> bool:
        return self.method is not None and self.method.type == "dpo"

    def requested_hyperparameters(self) -> dict[str, Any]:
        """The three of the wire: `method` first, then the deprecated field, then `auto`."""
        result: dict[str, Any] = {"batch_size": "auto", "learning_rate_multiplier": "auto", "n_epochs": "auto"}
        block = None if self.method is None else self.method.supervised or self.method.dpo
        for given in (self.hyperparameters, None if block is None else block.hyperparameters):
            if given is not None:
                result.update(given.model_dump(exclude_none=True, exclude={"beta"}))
        return result

    def requested_method(self) -> dict[str, Any]:
        """`{type, <type>: {hyperparameters}}`, normalised; of dpo with its beta."""
        requested = self.requested_hyperparameters()
        if not self.is_dpo:
            return {"type": "supervised", "supervised": {"hyperparameters": requested}}
        block = None if self.method is None else self.method.dpo
        given = None if block is None else block.hyperparameters
        beta = "auto" if given is None or given.beta is None else given.beta
        return {"type": "dpo", "dpo": {"hyperparameters": {**requested, "beta": beta}}}

    def check_method(self) -> None:
        """`InvalidInput` for a method that is not served here."""
        if self.method is not None and self.method.type == "reinforcement":
            raise InvalidInput(
                "The fine-tuning method 'reinforcement' is not available on this server; "
                "use method.type 'supervised' or 'dpo'.",
                param="method.type",
                code="unsupported_method",
            )

    def chosen_seed(self) -> int:
        return secrets.randbelow(MAX_SEED + 1) if self.seed is None else self.seed
