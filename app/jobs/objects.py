"""Jobs, events, checkpoints and metrics as the wire shows them: OpenAI's fields, then ours."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from app.clock import unix_seconds
from app.datasets.tasks import Task
from app.db.tables import CheckpointRow, Job, JobEvent, JobMetric
from app.jobs.event_texts import WIRE_FIGURES
from app.jobs.states import Status
from app.usage.schemas import JobUsageObject, job_usage_object

_PRIORITIES: dict[int, Literal["low", "normal", "high"]] = {-1: "low", 0: "normal", 1: "high"}
PRIORITY_LEVELS = {name: level for level, name in _PRIORITIES.items()}


class JobErrorObject(BaseModel):
    code: str
    message: str
    param: str | None


class HyperparametersObject(BaseModel):
    batch_size: Literal["auto"] | int
    learning_rate_multiplier: Literal["auto"] | float
    n_epochs: Literal["auto"] | int


class SupervisedObject(BaseModel):
    hyperparameters: HyperparametersObject


class SupervisedMethodObject(BaseModel):
    type: Literal["supervised"]
    supervised: SupervisedObject


class DpoHyperparametersObject(HyperparametersObject):
    beta: Literal["auto"] | float


class DpoObject(BaseModel):
    hyperparameters: DpoHyperparametersObject


class DpoMethodObject(BaseModel):
    type: Literal["dpo"]
    dpo: DpoObject


class EarlyStoppingObject(BaseModel):
    patience: int
    min_delta: float


class TrainingObject(BaseModel):
    """As asked for, "auto" where it was left to us, until the files are validated; then the numbers of the run."""

    adapter: Literal["auto", "lora", "rslora", "dora", "none"]
    rank: Literal["auto"] | int | None
    alpha: Literal["auto"] | float | None
    dropout: Literal["auto"] | float | None
    targets: Literal["auto", "all-linear"] | list[str] | None
    quantization: Literal["auto", "none", "nf4"]
    learning_rate: Literal["auto"] | float
    schedule: Literal["auto", "linear", "cosine", "constant"]
    warmup_fraction: Literal["auto"] | float
    weight_decay: Literal["auto"] | float
    max_grad_norm: Literal["auto"] | float
    max_length: Literal["auto"] | int
    early_stopping: Literal["auto", False] | EarlyStoppingObject
    keeps_best: Literal["auto"] | bool
    keep_checkpoints: Literal["auto"] | int
    valid_every_steps: Literal["auto"] | int


class QueueHint(BaseModel):
    """Where a queued job stands."""

    jobs_before: int
    message: str


class JobObject(BaseModel):
    id: str
    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    created_at: int
    finished_at: int | None
    error: JobErrorObject | None
    fine_tuned_model: str | None
    hyperparameters: HyperparametersObject
    model: str
    organization_id: str
    result_files: list[str]
    seed: int
    status: Status
    trained_tokens: int | None
    training_file: str
    validation_file: str | None
    estimated_finish: int | None
    integrations: list[dict[str, Any]] | None
    metadata: dict[str, str] | None
    method: SupervisedMethodObject | DpoMethodObject
    user_provided_suffix: str | None
    # Additions of ours.
    task: Task | None
    training: TrainingObject | None
    started_at: int | None
    priority: Literal["low", "normal", "high"]
    attempts: int
    base_model: str
    dataset_report: dict[str, Any] | None
    encoding: dict[str, Any] | None
    requirements: str | None
    expectations: list[dict[str, Any]] | None
    costs: dict[str, Any] | None
    usage: JobUsageObject | None
    evaluation: dict[str, Any] | None
    queue: QueueHint | None


class EventObject(BaseModel):
    id: str
    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"
    created_at: int
    level: Literal["info", "warn", "error"]
    message: str
    type: Literal["message", "metrics"]
    data: dict[str, Any] | None


class CheckpointMetricsObject(BaseModel):
    step: float | None
    train_loss: float | None
    train_mean_token_accuracy: float | None
    valid_loss: float | None
    valid_mean_token_accuracy: float | None
    full_valid_loss: float | None
    full_valid_mean_token_accuracy: float | None


class CheckpointObject(BaseModel):
    id: str
    object: Literal["fine_tuning.job.checkpoint"] = "fine_tuning.job.checkpoint"
    created_at: int
    fine_tuned_model_checkpoint: str
    fine_tuning_job_id: str
    metrics: CheckpointMetricsObject
    step_number: int


class MetricObject(BaseModel):
    """Figures of one optimizer step, by the names of the engine's report."""

    step: int
    recorded_at: int
    figures: dict[str, float]
    selection_score_name: str | None = Field(description="what `figures.selection_score` is, where there is one")


class MetricsPage(BaseModel):
    """A series, oldest step first; go on with `after_step=last_step`."""

    object: Literal["list"] = "list"
    data: list[MetricObject]
    has_more: bool
    last_step: int | None


def job_object(job: Job, *, queue: QueueHint | None = None, is_brief: bool = False) -> JobObject:
    """`is_brief` leaves out the long lists (samples, faults), for pages of jobs."""
    hyperparameters = HyperparametersObject.model_validate(job.hyperparameters)
    succeeded = job.status == Status.SUCCEEDED
    return JobObject(
        id=job.id,
        created_at=unix_seconds(job.created_at),
        finished_at=_seconds(job.finished_at),
        error=None if job.error is None else JobErrorObject.model_validate(job.error),
        fine_tuned_model=job.tuned_model_id if succeeded else None,
        hyperparameters=hyperparameters,
        model=job.parent_model_id or job.base_id,
        organization_id=job.team_id,
        result_files=[] if job.result_file_id is None else [job.result_file_id],
        seed=job.seed,
        status=Status(job.status),
        trained_tokens=job.trained_tokens if succeeded else None,
        training_file=job.training_file,
        validation_file=job.validation_file,
        estimated_finish=_seconds(job.estimated_finish),
        integrations=job.integrations,
        metadata=job.user_metadata,
        method=_method(job, hyperparameters),
        user_provided_suffix=job.suffix,
        task=None if job.task is None else Task(job.task),
        training=None if job.training is None else TrainingObject.model_validate(job.training),
        started_at=_seconds(job.started_at),
        priority=_PRIORITIES[job.priority],
        attempts=job.attempts,
        base_model=job.base_id,
        dataset_report=_shown(job.dataset_report, is_brief=is_brief),
        encoding=job.encoding,
        requirements=job.requirements,
        expectations=None if is_brief else job.expectations,
        costs=job.costs,
        usage=job_usage_object(job.usage),
        evaluation=_shown(job.evaluation, is_brief=is_brief),
        queue=queue,
    )


def _method(job: Job, hyperparameters: HyperparametersObject) -> SupervisedMethodObject | DpoMethodObject:
    if job.method["type"] == "dpo":
        return DpoMethodObject.model_validate(job.method)
    return SupervisedMethodObject(type="supervised", supervised=SupervisedObject(hyperparameters=hyperparameters))


def event_object(event: JobEvent) -> EventObject:
    return EventObject.model_validate(
        {
            "id": event.id,
            "created_at": unix_seconds(event.created_at),
            "level": event.level,
            "message": event.message,
            "type": event.type,
            "data": event.data,
        }
    )


def checkpoint_object(checkpoint: CheckpointRow) -> CheckpointObject:
    return CheckpointObject(
        id=checkpoint.id,
        created_at=unix_seconds(checkpoint.created_at),
        fine_tuned_model_checkpoint=checkpoint.model_id,
        fine_tuning_job_id=checkpoint.job_id,
        metrics=CheckpointMetricsObject.model_validate(
            {name: checkpoint.metrics.get(name) for name in WIRE_FIGURES if name != "total_steps"}
        ),
        step_number=checkpoint.step,
    )


def metrics_page(metrics: list[JobMetric], *, has_more: bool) -> MetricsPage:
    return MetricsPage(
        data=[
            MetricObject(
                step=row.step,
                recorded_at=unix_seconds(row.recorded_at),
                figures={name: value for name, value in row.figures.items() if name != "selection_score_name"},
                selection_score_name=row.figures.get("selection_score_name"),
            )
            for row in metrics
        ],
        has_more=has_more,
        last_step=metrics[-1].step if metrics else None,
    )


def _seconds(moment: datetime | None) -> int | None:
    return None if moment is None else unix_seconds(moment)


def _shown(report: dict[str, Any] | None, *, is_brief: bool) -> dict[str, Any] | None:
    """A stored report, without its long lists if brief."""
    if report is None or not is_brief:
        return report
    return {
        name: {key: item for key, item in value.items() if key != "faults"} if isinstance(value, dict) else value
        for name, value in report.items()
        if name != "samples"
    }
