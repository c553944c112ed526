"""/v1/models, the download of adapters, and who else may use a tuned model."""

from base64 import b64encode
from typing import Annotated, Literal

from fastapi import APIRouter, Depends
from starlette.responses import StreamingResponse

from app.api.dependencies import ServicesDep, allow
from app.api.edge import WorkRoute
from app.api.pagination import After, Limit10, ListPage, list_page
from app.files.names import content_disposition
from app.identity.caller import Caller
from app.identity.policy import Permission
from app.registry.schemas import (
    ModelDeleted,
    ModelList,
    ModelObject,
    PermissionCreate,
    PermissionDeleted,
    PermissionObject,
    model_object,
    permission_object,
)

router = APIRouter(prefix="/v1", route_class=WorkRoute, tags=["Models"])
Reader = Annotated[Caller, Depends(allow(Permission.MODELS_READ))]
Writer = Annotated[Caller, Depends(allow(Permission.MODELS_WRITE))]

# Clients send a '/' inside a model's name as it is or as %2F, so a name may be several segments of the path; the
# routes with something behind the name come first.


@router.get("/models")
def list_models(caller: Reader, services: ServicesDep) -> ModelList:
    """Base models, and the fine-tuned models your team may use."""
    return ModelList(data=[model_object(entry) for entry in services.registry.entries(caller)])


@router.get("/models/{model:path}/adapter", response_class=StreamingResponse)
def download_adapter(model: str, caller: Reader, services: ServicesDep) -> StreamingResponse:
    """The adapter in PEFT's format, as one tar archive with a manifest of hashes."""
    row, chunks = services.registry.open_adapter(caller, model)
    digest = b64encode(bytes.fromhex(row.archive_sha256)).decode()
    headers = {
        "content-length": str(row.archive_bytes),
        "content-disposition": content_disposition(f"{model.replace(':', '_').replace('/', '_')}.tar"),
        "etag": f'"{row.archive_sha256}"',
        "repr-digest": f"sha-256=:{digest}:",
        "x-archive-sha256": row.archive_sha256,
        "x-adapter-sha256": row.adapter_sha256,
    }
    return StreamingResponse(chunks, media_type="application/x-tar", headers=headers)


@router.get("/models/{model:path}")
def get_model(model: str, caller: Reader, services: ServicesDep) -> ModelObject:
    """One model."""
    return model_object(services.registry.entry(caller, model))


@router.delete("/models/{model:path}")
def delete_model(model: str, caller: Writer, services: ServicesDep) -> ModelDeleted:
    """Delete a fine-tuned model of your team."""
    services.registry.delete(caller, model)
    return ModelDeleted(id=model)


@router.post("/fine_tuning/checkpoints/{model:path}/permissions")
def create_permissions(
    model: str, caller: Writer, services: ServicesDep, body: PermissionCreate
) -> ListPage[PermissionObject]:
    """Let other teams use a model of yours; a `project_id` is the id of a team."""
    rows = services.registry.permit(caller, model, body.project_ids)
    return list_page([permission_object(row) for row in rows], has_more=False)


@router.get("/fine_tuning/checkpoints/{model:path}/permissions")
def list_permissions(
    *,
    model: str,
    caller: Reader,
    services: ServicesDep,
    project_id: str | None = None,
    after: After = None,
    limit: Limit10 = 10,
    order: Literal["ascending", "descending"] = "descending",
) -> ListPage[PermissionObject]:
    """Which other teams may use a model of yours."""
    page = services.registry.list_permissions(
        caller, model, team_id=project_id, after=after, limit=limit, ascending=order == "ascending"
    )
    return list_page([permission_object(row) for row in page.rows], has_more=page.has_more)


@router.delete("/fine_tuning/checkpoints/{model:path}/permissions/{permission_id}")
def delete_permission(model: str, permission_id: str, caller: Writer, services: ServicesDep) -> PermissionDeleted:
    """Take a permission back; effective at once."""
    services.registry.revoke_permission(caller, model, permission_id)
    return PermissionDeleted(id=permission_id)
