"""/v1/files: upload, list, read, delete."""

import hashlib
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from app.api.dependencies import ServicesDep, allow
from app.api.edge import WorkRoute, release
from app.api.idempotency import begin
from app.api.pagination import After, Limit10000, ListPage, Order, list_page
from app.db.tables import File
from app.factory import Services
from app.files.incoming import Incoming
from app.files.multipart import Form, FormReader, sink_into
from app.files.names import content_disposition
from app.files.purposes import checked_expiry, checked_purpose
from app.files.schemas import FileDeleted, FileObject, file_object
from app.files.service import checked_filename
from app.identity.caller import Caller
from app.identity.policy import Permission

router = APIRouter(prefix="/v1", route_class=WorkRoute, tags=["Files"])
Reader = Annotated[Caller, Depends(allow(Permission.FILES_READ))]
Writer = Annotated[Caller, Depends(allow(Permission.FILES_WRITE))]

_UPLOAD_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "purpose"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "purpose": {"type": "string"},
                        "expires_after[anchor]": {"type": "string", "enum": ["created_at"]},
                        "expires_after[seconds]": {"type": "integer", "minimum": 3600, "maximum": 2592000},
                    },
                }
            }
        },
    }
}


@router.post("/files", openapi_extra=_UPLOAD_BODY)
async def upload_file(request: Request, caller: Writer, services: ServicesDep) -> FileObject:
    """Upload a file. It is checked and hashed while it arrives, and visible only when it is whole."""
    await release(request)
    file_id, incoming = await run_in_threadpool(services.files.begin)
    form = await FormReader(request, file_field="file", sink=sink_into(incoming)).read()
    file = await run_in_threadpool(_finish, request, caller, services, form, file_id=file_id, incoming=incoming)
    return file_object(file)


@router.get("/files")
def list_files(
    *,
    caller: Reader,
    services: ServicesDep,
    purpose: str | None = None,
    after: After = None,
    limit: Limit10000 = 10_000,
    order: Order = "desc",
) -> ListPage[FileObject]:
    """Your team's files."""
    page = services.files.page(caller, purpose=purpose, after=after, limit=limit, ascending=order == "asc")
    return list_page([file_object(row) for row in page.rows], has_more=page.has_more)


@router.get("/files/{file_id}")
def get_file(file_id: str, caller: Reader, services: ServicesDep) -> FileObject:
    """What is known about a file."""
    return file_object(services.files.get(caller.team_id, file_id))


@router.delete("/files/{file_id}")
def delete_file(file_id: str, caller: Writer, services: ServicesDep) -> FileDeleted:
    """Delete a file. Jobs that have read it already are not affected."""
    return FileDeleted(id=services.files.delete(caller, file_id).id)


@router.get("/files/{file_id}/content", response_class=StreamingResponse)
def get_file_content(file_id: str, caller: Reader, services: ServicesDep) -> StreamingResponse:
    """The bytes of a file."""
    file = services.files.get(caller.team_id, file_id)
    headers = {
        "content-length": str(file.bytes),
        "content-disposition": content_disposition(file.filename),
        "x-content-type-options": "nosniff",
        "etag": f'"{file.sha256}"',
    }
    return StreamingResponse(services.files.open(file), media_type="application/octet-stream", headers=headers)


def _finish(
    request: Request, caller: Caller, services: Services, form: Form, *, file_id: str, incoming: Incoming
) -> File:
    purpose = checked_purpose(form.fields.get("purpose"))
    stored = incoming.finish()
    fingerprint = hashlib.sha256(f"{form.filename}\n{purpose}\n{stored.sha256}".encode()).hexdigest()
    begin(request, services.work, caller, body_sha256=fingerprint)
    return services.files.finish(
        caller.team_id,
        caller.actor,
        file_id,
        incoming,
        filename=checked_filename(form.filename),
        purpose=purpose,
        expires_after_seconds=checked_expiry(form.fields),
    )
