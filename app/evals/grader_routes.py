"""/v1/fine_tuning/alpha/graders: check a grader, try it on one sample."""

import time
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from starlette.concurrency import run_in_threadpool

from app.api.dependencies import ServicesDep, allow
from app.api.edge import WorkRoute, release
from app.chat.runtime import ChatRuntime
from app.errors import InvalidInput
from app.evals.grader_shape import GraderChecked, GraderRan, GraderRun, GraderValidate, ran_wire
from app.evals.graders.grading import GradeFault, grade
from app.evals.graders.refusals import models_of, refuse_unserved
from app.evals.models import ModelAsker
from app.evals.scoring import sample_values
from app.identity.caller import Caller
from app.identity.policy import Permission

router = APIRouter(prefix="/v1/fine_tuning/alpha/graders", route_class=WorkRoute, tags=["Evals"])
CallerDep = Annotated[Caller, Depends(allow(Permission.MODELS_USE))]


@router.post("/validate")
def validate_grader(caller: CallerDep, services: ServicesDep, body: GraderValidate) -> GraderChecked:
    """Whether a grader can be run here; the grader as it was sent."""
    refuse_unserved(body.grader, "grader")
    for model in sorted(models_of(body.grader)):
        services.chat.find_model(caller, model)
    return GraderChecked(grader=body.grader.wire())


@router.post("/run")
async def run_grader(request: Request, caller: CallerDep, services: ServicesDep, body: GraderRun) -> GraderRan:
    """Grade one sample. What goes wrong in the grader is told in `metadata.errors`, with a reward of 0."""
    refuse_unserved(body.grader, "grader")
    runtime: ChatRuntime = request.app.state.chat
    found = {
        model: await run_in_threadpool(services.chat.find_model, caller, model)
        for model in sorted(models_of(body.grader))
    }
    await release(request)
    adapters = {
        name: None if model.archive is None else await run_in_threadpool(runtime.adapters.materialise, model.archive)
        for name, model in found.items()
    }
    asker = ModelAsker(runtime.generator, {name: (found[name], adapters[name]) for name in found})
    values = {"item": _item(body.item), "sample": sample_values(body.model_sample)}
    begun = time.monotonic()
    try:
        result = await grade(body.grader, values, asker)
    except GradeFault as fault:
        return ran_wire(body.grader, fault, seconds=time.monotonic() - begun)
    return ran_wire(body.grader, result, seconds=time.monotonic() - begun)


def _item(item: Any) -> dict[str, Any]:
    if item is None:
        return {}
    if not isinstance(item, dict):
        raise InvalidInput("'item' must be an object: its fields are the variables of the grader.", param="item")
    return item
