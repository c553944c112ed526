"""/v1/models/{model}/stage: candidate, approved, serving."""

from typing import Annotated

from fastapi import APIRouter, Depends

from app.api.dependencies import ServicesDep, allow
from app.api.edge import WorkRoute
from app.identity.caller import Caller
from app.identity.policy import Permission
from app.stages.schemas import Stage, StageMove, StageObject

router = APIRouter(prefix="/v1/models", route_class=WorkRoute, tags=["Models"])
Reader = Annotated[Caller, Depends(allow(Permission.MODELS_READ))]
Writer = Annotated[Caller, Depends(allow(Permission.MODELS_WRITE))]


@router.get("/{model:path}/stage")
def get_stage(model: str, caller: Reader, services: ServicesDep) -> StageObject:
    """The stage a fine-tuned model has reached."""
    return StageObject(id=model, stage=Stage(services.stages.get(caller, model).stage))


@router.post("/{model:path}/stage")
def move_stage(model: str, caller: Writer, services: ServicesDep, body: StageMove) -> StageObject:
    """Approve a model, serve it, or take it back. What was not shown on held-out rows is refused with its reasons."""
    return StageObject(id=model, stage=Stage(services.stages.move(caller, model, body).stage))
