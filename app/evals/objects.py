"""Evals, runs and output items as the wire has them. Additions of ours: pass rates with intervals, `total_items`."""

from typing import Any, Literal

from pydantic import BaseModel

from app.clock import unix_seconds
from app.db.tables import Eval, EvalOutputItem, EvalRun
from app.evals.scoring import NO_ERROR
from app.evals.tally import done, pass_rate

_NO_SAMPLE_SCHEMA = ("custom",)


class EvalObject(BaseModel):
    id: str
    object: Literal["eval"] = "eval"
    created_at: int
    name: str
    data_source_config: dict[str, Any]
    testing_criteria: list[dict[str, Any]]
    metadata: dict[str, str] | None
    updated_at: int


class EvalDeleted(BaseModel):
    object: Literal["eval.deleted"] = "eval.deleted"
    eval_id: str
    deleted: Literal[True] = True


class ApiError(BaseModel):
    code: str
    message: str


class ResultCounts(BaseModel):
    total: int
    passed: int
    failed: int
    errored: int


class CriterionResult(BaseModel):
    """`pass_rate` is passed / (passed + failed), with Wilson's 95 % interval; null where nothing was judged."""

    testing_criteria: str
    passed: int
    failed: int
    errored: int
    pass_rate: float | None
    pass_rate_low: float | None
    pass_rate_high: float | None


class ModelUsage(BaseModel):
    model_name: str
    invocation_count: int
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cached_tokens: int = 0


class RunObject(BaseModel):
    """`result_counts.total` are the items done, `total_items` all of them (null until the data was read).

    `error` is `{"code": "", "message": ""}` where there is none: strict clients know no null there.
    """

    id: str
    object: Literal["eval.run"] = "eval.run"
    created_at: int
    eval_id: str
    name: str
    status: str
    model: str
    data_source: dict[str, Any]
    metadata: dict[str, str] | None
    error: ApiError
    result_counts: ResultCounts
    per_testing_criteria_results: list[CriterionResult]
    per_model_usage: list[ModelUsage]
    report_url: str
    total_items: int | None
    started_at: int | None
    finished_at: int | None


class RunDeleted(BaseModel):
    object: Literal["eval.run.deleted"] = "eval.run.deleted"
    run_id: str
    deleted: Literal[True] = True


class OutputItemObject(BaseModel):
    id: str
    object: Literal["eval.run.output_item"] = "eval.run.output_item"
    created_at: int
    eval_id: str
    run_id: str
    status: str
    datasource_item_id: int
    datasource_item: dict[str, Any]
    sample: dict[str, Any]
    results: list[dict[str, Any]]


def eval_object(row: Eval) -> EvalObject:
    return EvalObject(
        id=row.id,
        created_at=unix_seconds(row.created_at),
        name=row.name,
        data_source_config=_config(row.data_source_config),
        testing_criteria=row.testing_criteria,
        metadata=row.user_metadata,
        updated_at=unix_seconds(row.updated_at),
    )


def run_object(row: EvalRun, names: list[str]) -> RunObject:
    """`names` are those of the eval's criteria, in their order."""
    tally = row.tally
    return RunObject(
        id=row.id,
        created_at=unix_seconds(row.created_at),
        eval_id=row.eval_id,
        name=row.name,
        status=row.status,
        model=row.model or "",
        data_source=row.data_source,
        metadata=row.user_metadata,
        error=ApiError.model_validate(row.error or NO_ERROR),
        result_counts=ResultCounts(
            total=done(tally), passed=tally["passed"], failed=tally["failed"], errored=tally["errored"]
        ),
        per_testing_criteria_results=[
            _criterion(name, counts) for name, counts in zip(names, tally["criteria"], strict=True)
        ],
        per_model_usage=[
            ModelUsage(model_name=name, total_tokens=used["prompt_tokens"] + used["completion_tokens"], **used)
            for name, used in sorted(tally["models"].items())
        ],
        report_url=f"/v1/evals/{row.eval_id}/runs/{row.id}",
        total_items=row.total,
        started_at=None if row.started_at is None else unix_seconds(row.started_at),
        finished_at=None if row.finished_at is None else unix_seconds(row.finished_at),
    )


def output_item_object(row: EvalOutputItem, eval_id: str) -> OutputItemObject:
    """Of an item that is done."""
    assert row.created_at is not None  # noqa: S101 - items that are done have it
    return OutputItemObject(
        id=row.id,
        created_at=unix_seconds(row.created_at),
        eval_id=eval_id,
        run_id=row.run_id,
        status=row.status,
        datasource_item_id=row.position,
        datasource_item=row.item,
        sample=row.sample or {},
        results=row.results or [],
    )


def _criterion(name: str, counts: dict[str, int]) -> CriterionResult:
    rate = pass_rate(counts["passed"], counts["passed"] + counts["failed"])
    return CriterionResult(
        testing_criteria=name,
        passed=counts["passed"],
        failed=counts["failed"],
        errored=counts["errored"],
        pass_rate=None if rate is None else rate.share,
        pass_rate_low=None if rate is None else rate.low,
        pass_rate_high=None if rate is None else rate.high,
    )


def _config(sent: dict[str, Any]) -> dict[str, Any]:
    """What was sent, as the schema of `item` and `sample` that the wire shows in its place."""
    properties: dict[str, Any] = {"item": sent.get("item_schema") or {"type": "object"}}
    if sent["type"] not in _NO_SAMPLE_SCHEMA or sent.get("include_sample_schema"):
        properties["sample"] = _SAMPLE_SCHEMA
    shown: dict[str, Any] = {
        "type": sent["type"],
        "schema": {"type": "object", "properties": properties, "required": list(properties)},
    }
    if sent["type"] not in _NO_SAMPLE_SCHEMA:
        shown["metadata"] = sent.get("metadata")
    return shown


_SAMPLE_SCHEMA = {
    "type": "object",
    "properties": {
        "model": {"type": "string"},
        "choices": {"type": "array"},
        "output_text": {"type": "string"},
        "output_json": {},
        "output_tools": {"type": "array"},
    },
    "required": ["model", "choices"],
}
