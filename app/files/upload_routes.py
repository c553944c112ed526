"""/v1/uploads: a file in parts."""

import hashlib
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.concurrency import run_in_threadpool

from app.api.dependencies import ServicesDep, allow
from app.api.edge import WorkRoute, release
from app.api.idempotency import begin
from app.db.tables import UploadPart
from app.factory import Services
from app.files.incoming import Incoming
from app.files.multipart import FormReader, sink_into
from app.files.schemas import (
    UploadComplete,
    UploadCreate,
    UploadObject,
    UploadPartObject,
    part_object,
    upload_object,
)
from app.identity.caller import Caller
from app.identity.policy import Permission

router = APIRouter(prefix="/v1/uploads", route_class=WorkRoute, tags=["Uploads"])
Writer = Annotated[Caller, Depends(allow(Permission.FILES_WRITE))]

_PART_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["data"],
                    "properties": {"data": {"type": "string", "format": "binary"}},
                }
            }
        },
    }
}


@router.post("")
def create_upload(caller: Writer, services: ServicesDep, body: UploadCreate) -> UploadObject:
    """Announce a file that will come in parts."""
    upload = services.uploads.create(
        caller,
        filename=body.filename,
        purpose=body.purpose,
        total_bytes=body.bytes,
        mime_type=body.mime_type,
        expires_after_seconds=None if body.expires_after is None else body.expires_after.seconds,
    )
    return upload_object(upload)


@router.post("/{upload_id}/parts", openapi_extra=_PART_BODY)
async def add_upload_part(upload_id: str, request: Request, caller: Writer, services: ServicesDep) -> UploadPartObject:
    """Send one part, of at most 64 MiB; parts may be sent at the same time."""
    await run_in_threadpool(services.uploads.begin_part, caller, upload_id)
    await release(request)
    part_id, incoming = await run_in_threadpool(services.uploads.receive_part, upload_id)
    await FormReader(request, file_field="data", sink=sink_into(incoming)).read()
    part = await run_in_threadpool(_add_part, request, caller, services, upload_id, part_id=part_id, incoming=incoming)
    return part_object(part)


@router.post("/{upload_id}/complete")
async def complete_upload(
    upload_id: str, request: Request, caller: Writer, services: ServicesDep, body: UploadComplete
) -> UploadObject:
    """Join the parts in the given order; the answer carries the file."""
    parts = await run_in_threadpool(services.uploads.choose_parts, caller, upload_id, body.part_ids)
    await release(request)
    assembled = await run_in_threadpool(services.uploads.assemble, parts, md5=body.md5)
    upload, file = await run_in_threadpool(services.uploads.complete, caller, upload_id, assembled)
    return upload_object(upload, file)


@router.post("/{upload_id}/cancel")
def cancel_upload(upload_id: str, caller: Writer, services: ServicesDep) -> UploadObject:
    """Give an upload up; its parts are removed."""
    return upload_object(services.uploads.cancel(caller, upload_id))


def _add_part(
    request: Request, caller: Caller, services: Services, upload_id: str, *, part_id: str, incoming: Incoming
) -> UploadPart:
    fingerprint = hashlib.sha256(incoming.finish().sha256.encode()).hexdigest()
    begin(request, services.work, caller, body_sha256=fingerprint)
    return services.uploads.add_part(caller, upload_id, part_id, incoming)
