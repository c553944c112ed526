"""Wire shapes of evaluations on demand. All of it is an addition of ours."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.clock import unix_seconds
from app.contracts.reports import Evaluation
from app.db.tables import Job
from app.jobs.objects import JobErrorObject, QueueHint
from app.jobs.schemas import Expectations, Metadata
from app.jobs.states import Status

_Id = Annotated[str, Field(min_length=1, max_length=512)]


class EvaluationCreate(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    model: Annotated[_Id, Field(description="the fine-tuned model, or checkpoint of one, to be scored")]
    file: Annotated[_Id, Field(description="rows as for training that model, none of which it has seen")]
    against: _Id | None = Field(
        default=None, description="an earlier model of the same base, task and labels; default: the base"
    )
    requirements: Annotated[str, Field(min_length=1, max_length=4000)] | None = Field(
        default=None, description="a sheet as of a job; default: the sheet of the job that made the model"
    )
    expectations: Expectations | None = Field(default=None, description="as of a job; default: those of that job")
    metadata: Metadata | None = None


class EvaluationObject(BaseModel):
    """An evaluation on demand, and once it has succeeded its result."""

    id: str
    object: Literal["evaluation"] = "evaluation"
    created_at: int
    started_at: int | None
    finished_at: int | None
    status: Status
    model: str
    against: str = Field(description="what stands beside the model: an earlier one, or its base")
    base_model: str
    file: str
    leakage_checked: bool = Field(
        description="false where the model's training file is gone or another team's: rows it has seen then count too"
    )
    requirements: str | None
    metadata: dict[str, str] | None
    error: JobErrorObject | None
    queue: QueueHint | None
    result: dict[str, Any] | None = Field(description="as `/evaluation` of a job; null on pages of a list")


def evaluation_object(job: Job, *, queue: QueueHint | None = None, is_brief: bool = False) -> EvaluationObject:
    """`is_brief` leaves out the result, which is long."""
    return EvaluationObject(
        id=job.id,
        created_at=unix_seconds(job.created_at),
        started_at=None if job.started_at is None else unix_seconds(job.started_at),
        finished_at=None if job.finished_at is None else unix_seconds(job.finished_at),
        status=Status(job.status),
        model=job.parent_model_id or job.base_id,
        against=job.against_model_id or job.base_id,
        base_model=job.base_id,
        file=job.validation_file or job.training_file,
        leakage_checked=job.training_file != job.validation_file,
        requirements=job.requirements,
        metadata=job.user_metadata,
        error=None if job.error is None else JobErrorObject.model_validate(job.error),
        queue=queue,
        result=None if is_brief else job.evaluation,
    )


def result_of(job: Job) -> Evaluation:
    """The stored result of an evaluation that has one."""
    return Evaluation.model_validate({"run_id": job.id, **(job.evaluation or {})})
