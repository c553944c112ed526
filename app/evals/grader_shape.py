"""Bodies and answers of the grader endpoints."""

from typing import Any

from pydantic import BaseModel, Field

from app.evals.graders.grading import AnyGrader, Grade, GradeFault
from app.evals.graders.specs import Grader, Spec, Text

_FLAGS = (
    "formula_parse_error",
    "sample_parse_error",
    "truncated_observation_error",
    "unresponsive_reward_error",
    "invalid_variable_error",
    "other_error",
    "python_grader_server_error",
    "python_grader_runtime_error",
    "model_grader_server_error",
    "model_grader_refusal_error",
    "model_grader_parse_error",
)


class GraderValidate(Spec):
    grader: Grader


class GraderRun(Spec):
    grader: Grader
    model_sample: Text
    item: Any = None


class GraderChecked(BaseModel):
    grader: dict[str, Any]


class GraderMetadata(BaseModel):
    name: str
    type: str
    errors: dict[str, Any] = Field(description="eleven flags, and details where there are any")
    execution_time: float = Field(description="seconds")
    scores: dict[str, Any]
    token_usage: int | None
    sampled_model_name: str | None


class GraderRan(BaseModel):
    reward: float
    metadata: GraderMetadata
    sub_rewards: dict[str, Any]
    model_grader_token_usage_per_model: dict[str, Any]


def ran_wire(grader: AnyGrader, outcome: Grade | GradeFault, *, seconds: float) -> GraderRan:
    """What became of one sample; of a fault the flag that is its kind, and `other_error_details` says more."""
    errors: dict[str, Any] = dict.fromkeys(_FLAGS, False) | {
        "python_grader_server_error_type": None,
        "python_grader_runtime_error_details": None,
        "model_grader_server_error_details": None,
    }
    replies = outcome.replies
    if isinstance(outcome, GradeFault):
        errors[outcome.kind] = True
        details = "model_grader_server_error_details" if outcome.kind.startswith("model") else "other_error_details"
        errors[details] = outcome.message
    usage: dict[str, int] = {}
    for reply in replies:
        usage[reply.model] = usage.get(reply.model, 0) + reply.prompt_tokens + reply.completion_tokens
    score = outcome.score if isinstance(outcome, Grade) else 0.0
    sub_scores = outcome.sub_scores if isinstance(outcome, Grade) else {}
    metadata = GraderMetadata(
        name=grader.name,
        type=grader.type,
        errors=errors,
        execution_time=seconds,
        scores=sub_scores or {grader.name: score},
        token_usage=sum(usage.values()) if replies else None,
        sampled_model_name=replies[0].model if replies else None,
    )
    return GraderRan(reward=score, metadata=metadata, sub_rewards=sub_scores, model_grader_token_usage_per_model=usage)
