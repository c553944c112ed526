"""/v1/models/{model}/predict: models with a task of their own, in the shapes of Hugging Face's inference API."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from app.api.dependencies import ServicesDep
from app.api.edge import WorkRoute
from app.chat.connection import CallerGone, while_connected
from app.chat.predict_schemas import PredictRequest
from app.chat.predict_shape import predict_spec, predicted_headers, predicted_wire
from app.chat.routes import CallerDep, RuntimeDep, find
from app.errors import InvalidInput

router = APIRouter(prefix="/v1", route_class=WorkRoute, tags=["Chat"])


# Clients send a '/' inside a model's name as it is or as %2F: see `app.registry.routes`.
@router.post("/models/{model:path}/predict", response_model=None)
async def predict(
    *,
    request: Request,
    model: str,
    body: PredictRequest,
    services: ServicesDep,
    caller: CallerDep,
    runtime: RuntimeDep,
) -> Response:
    """Labels, entities or texts from a model tuned for them, in the shape of Hugging Face's inference API."""
    found, adapter = await find(request, services, runtime, caller, model)
    if adapter is None or not found.predicts:
        found.require_writing()
        raise InvalidInput(
            f"'{model}' holds conversations: ask /v1/chat/completions. Only models tuned for text-classification, "
            "token-classification or summarization predict.",
            code="unsupported_endpoint",
            param="model",
        )
    spec = predict_spec(body, found, adapter)
    try:
        predictions = await while_connected(request, runtime.generator.predict(spec))
    except CallerGone:
        return Response(status_code=499)
    return JSONResponse(predicted_wire(body, predictions), headers=predicted_headers(predictions))
