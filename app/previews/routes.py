"""/v1/files/{file_id}/preview: what would be learned from a file, before any GPU is used."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.concurrency import run_in_threadpool

from app.api.dependencies import ServicesDep, allow
from app.api.edge import WorkRoute, keep_answer_secret, release
from app.chat.backend import Generator
from app.chat.runtime import ChatRuntime
from app.identity.caller import Caller
from app.identity.policy import Permission
from app.previews.schemas import PreviewCreate, PreviewObject
from app.previews.service import preview_object, preview_spec, read_sample

router = APIRouter(prefix="/v1", route_class=WorkRoute, tags=["Files"])
CallerDep = Annotated[Caller, Depends(allow(Permission.FILES_READ))]


def _engine(request: Request) -> Generator:
    runtime: ChatRuntime = request.app.state.chat
    return runtime.generator


# The answer quotes the file: kept for Idempotency-Key it would outlive a deleted file.
@router.post("/files/{file_id}/preview", dependencies=[Depends(keep_answer_secret)])
async def preview_file(
    *,
    request: Request,
    file_id: str,
    body: PreviewCreate,
    services: ServicesDep,
    caller: CallerDep,
    engine: Annotated[Generator, Depends(_engine)],
) -> PreviewObject:
    """Rows of a file as they would be trained on: every token, which of them are learned, what is cut or dropped.

    Uses the tokenizer of the base and no GPU. Faults of the file are listed, not raised.
    """
    source = await run_in_threadpool(services.previews.find, caller, file_id, body.model)
    await release(request)
    sample = await run_in_threadpool(read_sample, source, body)
    spec = preview_spec(source, body, sample)
    return preview_object(source, body, sample, None if spec is None else await engine.preview(spec))
