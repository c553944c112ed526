"""Wire shapes of a model's stage."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class Stage(StrEnum):
    """How far a tuned model has come."""

    CANDIDATE = "candidate"
    APPROVED = "approved"
    SERVING = "serving"


class StageMove(BaseModel):
    model_config = ConfigDict(extra="forbid")

    stage: Annotated[Stage, Field(strict=False)]
    evaluation: Annotated[str, Field(min_length=1, max_length=512)] | None = Field(
        default=None, description="an evaluation on demand to approve it by; default: that of the job that made it"
    )


class StageObject(BaseModel):
    id: str
    object: Literal["model.stage"] = "model.stage"
    stage: Stage
