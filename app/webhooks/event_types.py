"""What a webhook can tell of: OpenAI's event types where it has one for the thing, then ours."""

from enum import StrEnum


class EventType(StrEnum):
    JOB_SUCCEEDED = "fine_tuning.job.succeeded"
    JOB_FAILED = "fine_tuning.job.failed"
    JOB_CANCELLED = "fine_tuning.job.cancelled"
    EVAL_RUN_SUCCEEDED = "eval.run.succeeded"
    EVAL_RUN_FAILED = "eval.run.failed"
    EVAL_RUN_CANCELED = "eval.run.canceled"
    # Ours.
    JOB_PAUSED = "fine_tuning.job.paused"
    EVALUATION_SUCCEEDED = "evaluation.succeeded"
    EVALUATION_FAILED = "evaluation.failed"
    EVALUATION_CANCELLED = "evaluation.cancelled"
    BUDGET_WARNED = "budget.warned"
    BUDGET_EXCEEDED = "budget.exceeded"
    ENDPOINT_DISABLED = "webhook_endpoint.disabled"


_OF_JOBS = {
    ("training", "succeeded"): EventType.JOB_SUCCEEDED,
    ("training", "failed"): EventType.JOB_FAILED,
    ("training", "cancelled"): EventType.JOB_CANCELLED,
    ("training", "paused"): EventType.JOB_PAUSED,
    ("evaluation", "succeeded"): EventType.EVALUATION_SUCCEEDED,
    ("evaluation", "failed"): EventType.EVALUATION_FAILED,
    ("evaluation", "cancelled"): EventType.EVALUATION_CANCELLED,
}
_OF_RUNS = {
    "completed": EventType.EVAL_RUN_SUCCEEDED,
    "failed": EventType.EVAL_RUN_FAILED,
    "canceled": EventType.EVAL_RUN_CANCELED,
}


def of_job(purpose: str, status: str) -> EventType | None:
    """What a job's new status is told as; None for one that nobody is told of."""
    return _OF_JOBS.get((purpose, status))


def of_run(status: str) -> EventType | None:
    """As `of_job`, for the runs of evals."""
    return _OF_RUNS.get(status)
