"""/v1/evals: evals, their runs, and the output items of a run, on OpenAI's wire."""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query

from app.api.dependencies import ServicesDep, allow
from app.api.edge import WorkRoute
from app.api.pagination import After, Limit20, ListPage, Order, list_page
from app.db.tables import Eval, EvalRun
from app.evals.objects import (
    EvalDeleted,
    EvalObject,
    OutputItemObject,
    RunDeleted,
    RunObject,
    eval_object,
    output_item_object,
    run_object,
)
from app.evals.schemas import EvalCreate, EvalUpdate, RunCreate
from app.identity.caller import Caller
from app.identity.policy import Permission

router = APIRouter(prefix="/v1/evals", route_class=WorkRoute, tags=["Evals"])
Reader = Annotated[Caller, Depends(allow(Permission.EVALS_READ))]
Writer = Annotated[Caller, Depends(allow(Permission.EVALS_WRITE))]
# A run shows its data source with all rows that were sent.
RunLimit = Annotated[int, Query(ge=0, le=100, description="items on a page")]
RunStatus = Literal["queued", "in_progress", "completed", "canceled", "failed"]
ItemStatus = Annotated[
    Literal["pass", "fail", "error", "passed", "failed", "errored"] | None,
    Query(description="`error` is ours: items that could not be judged"),
]
_STATUS = {"passed": "pass", "failed": "fail", "errored": "error"}


@router.post("")
def create_eval(caller: Writer, services: ServicesDep, body: EvalCreate) -> EvalObject:
    """Say what data looks like and which graders judge it."""
    return eval_object(services.evals.create(caller, body))


@router.get("")
def list_evals(
    *,
    caller: Reader,
    services: ServicesDep,
    after: After = None,
    limit: Limit20 = 20,
    order: Order = "asc",
    order_by: Literal["created_at", "updated_at"] = "created_at",
) -> ListPage[EvalObject]:
    """Your team's evals, oldest first unless told otherwise."""
    page = services.evals.page(
        caller, by_update=order_by == "updated_at", after=after, limit=limit, ascending=order == "asc"
    )
    return list_page([eval_object(row) for row in page.rows], has_more=page.has_more)


@router.get("/{eval_id}")
def get_eval(eval_id: str, caller: Reader, services: ServicesDep) -> EvalObject:
    """One eval."""
    return eval_object(services.evals.get(caller, eval_id))


@router.post("/{eval_id}")
def update_eval(eval_id: str, caller: Writer, services: ServicesDep, body: EvalUpdate) -> EvalObject:
    """Rename an eval or replace its metadata; its criteria stay."""
    return eval_object(services.evals.update(caller, eval_id, body))


@router.delete("/{eval_id}")
def delete_eval(eval_id: str, caller: Writer, services: ServicesDep) -> EvalDeleted:
    """Delete an eval with its runs."""
    services.evals.delete(caller, eval_id)
    return EvalDeleted(eval_id=eval_id)


@router.post("/{eval_id}/runs")
def create_run(eval_id: str, caller: Writer, services: ServicesDep, body: RunCreate) -> RunObject:
    """Judge data: samples that are there, or answers of a base or tuned model."""
    run = services.evals.start(caller, eval_id, body)
    return _shown(run, services.evals.get(caller, eval_id))


@router.get("/{eval_id}/runs")
def list_runs(
    *,
    eval_id: str,
    caller: Reader,
    services: ServicesDep,
    after: After = None,
    limit: RunLimit = 20,
    order: Order = "asc",
    status: RunStatus | None = None,
) -> ListPage[RunObject]:
    """The runs of an eval, oldest first unless told otherwise."""
    parent = services.evals.get(caller, eval_id)
    page = services.evals.runs(caller, eval_id, status=status, after=after, limit=limit, ascending=order == "asc")
    return list_page([_shown(run, parent) for run in page.rows], has_more=page.has_more)


@router.get("/{eval_id}/runs/{run_id}")
def get_run(eval_id: str, run_id: str, caller: Reader, services: ServicesDep) -> RunObject:
    """One run with its counts so far, and the pass rate of each criterion with a 95 % interval."""
    run = services.evals.run(caller, eval_id, run_id)
    return _shown(run, services.evals.get(caller, eval_id))


@router.delete("/{eval_id}/runs/{run_id}")
def delete_run(eval_id: str, run_id: str, caller: Writer, services: ServicesDep) -> RunDeleted:
    """Delete a run with its output items."""
    services.evals.delete_run(caller, eval_id, run_id)
    return RunDeleted(run_id=run_id)


@router.post("/{eval_id}/runs/{run_id}")
def cancel_run_of_older_clients(eval_id: str, run_id: str, caller: Writer, services: ServicesDep) -> RunObject:
    """Cancel a run, as clients before 3.0 ask for it."""
    return cancel_run(eval_id, run_id, caller, services)


@router.post("/{eval_id}/runs/{run_id}/cancel")
def cancel_run(eval_id: str, run_id: str, caller: Writer, services: ServicesDep) -> RunObject:
    """Cancel a run; what is done stays."""
    run = services.evals.cancel(caller, eval_id, run_id)
    return _shown(run, services.evals.get(caller, eval_id))


@router.get("/{eval_id}/runs/{run_id}/output_items")
def list_output_items(
    *,
    eval_id: str,
    run_id: str,
    caller: Reader,
    services: ServicesDep,
    after: After = None,
    limit: Limit20 = 20,
    order: Order = "asc",
    status: ItemStatus = None,
) -> ListPage[OutputItemObject]:
    """The items of a run that are done, in the order of the data."""
    wanted = None if status is None else _STATUS.get(status, status)
    page = services.evals.items(
        caller, eval_id, run_id, status=wanted, after=after, limit=limit, ascending=order == "asc"
    )
    return list_page([output_item_object(row, eval_id) for row in page.rows], has_more=page.has_more)


@router.get("/{eval_id}/runs/{run_id}/output_items/{output_item_id}")
def get_output_item(
    eval_id: str, run_id: str, output_item_id: str, caller: Reader, services: ServicesDep
) -> OutputItemObject:
    """One item: the datum, what was answered, and what each grader said."""
    return output_item_object(services.evals.item(caller, eval_id, run_id, output_item_id), eval_id)


def _shown(run: EvalRun, parent: Eval) -> RunObject:
    return run_object(run, [criterion["name"] for criterion in parent.testing_criteria])
