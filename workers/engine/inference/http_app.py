"""The private HTTP face of the serving process: POST /generate, POST /predict, POST /preview, GET /health."""

import asyncio
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from app.contracts.errors import WorkerError, WorkerFailure
from app.contracts.generation import Done, ErrorLine, GenerationLine
from app.contracts.predictions import Predictions, PredictSpec
from app.contracts.previews import PreviewSpec
from app.contracts.specs import GenerateSpec
from workers.engine.inference.failures import describe
from workers.engine.inference.prediction_turns import PredictJob
from workers.engine.inference.scheduler import Job, Scheduler
from workers.engine.previews.previewer import Previewer

Handler = Callable[[Request], Awaitable[Response]]
_MAX_BODY_BYTES = 32 * 2**20
_CLIENT_CLOSED_REQUEST = 499  # nobody reads it
_STATUS = {"usage": 400, "transient": 503, "fatal": 500}


def build_app(scheduler: Scheduler, *, token: str | None) -> Starlette:
    """The application; with a `token` every path but /health wants it as a bearer."""
    previewer = Previewer()

    async def generate(request: Request) -> Response:
        spec = GenerateSpec.model_validate_json(await _body(request))
        return await _Answer(spec, scheduler).respond(request)

    async def predict(request: Request) -> Response:
        spec = PredictSpec.model_validate_json(await _body(request))
        return await _predict(spec, scheduler, request)

    async def preview(request: Request) -> Response:
        spec = PreviewSpec.model_validate_json(await _body(request))
        return Response((await previewer.answer(spec)).model_dump_json(), media_type="application/json")

    async def health(_request: Request) -> Response:
        is_well = scheduler.is_alive
        body = {
            "status": "ok" if is_well else "failed",
            "running": scheduler.running,
            "waiting": scheduler.waiting,
        }
        return JSONResponse(body, status_code=200 if is_well else 503)

    return Starlette(
        routes=[
            Route("/generate", _guarded(generate, token), methods=["POST"]),
            Route("/predict", _guarded(predict, token), methods=["POST"]),
            Route("/preview", _guarded(preview, token), methods=["POST"]),
            Route("/health", health, methods=["GET"]),
        ]
    )


def _guarded(handle: Handler, token: str | None) -> Handler:
    """The handler behind the token; what it refuses is answered in words."""

    async def guarded(request: Request) -> Response:
        if token is not None and not _has_token(request, token):
            message = "The bearer token is missing or wrong; send this server's token."
            return _refused(WorkerError(kind="usage", code="invalid_token", message=message), status=401)
        try:
            return await handle(request)
        except ValidationError as error:
            return _refused(_invalid(error))
        except WorkerFailure as failure:
            return _refused(failure.error)
        except Exception as error:  # noqa: BLE001 — the command edge: a request must not end without its reason
            return _refused(describe(error))

    return guarded


async def _predict(spec: PredictSpec, scheduler: Scheduler, request: Request) -> Response:
    """Waits for all predictions; a client that goes away stops the work."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Predictions | ErrorLine] = loop.create_future()

    def settle(found: Predictions | ErrorLine) -> None:
        if not answer.done():
            answer.set_result(found)

    def deliver(found: Predictions | ErrorLine) -> None:
        with suppress(RuntimeError):  # the event loop has ended with the process: nobody reads any more
            loop.call_soon_threadsafe(settle, found)

    job = PredictJob(spec, deliver)
    scheduler.submit(job)
    gone = asyncio.create_task(_until_disconnected(request))
    awaited: set[asyncio.Future[Any]] = {answer, gone}
    try:
        await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
    finally:
        gone.cancel()
        job.is_cancelled = True
    if not answer.done():
        return Response(status_code=_CLIENT_CLOSED_REQUEST)
    found = answer.result()
    if isinstance(found, ErrorLine):
        return _refused(found.error)
    return Response(found.model_dump_json(), media_type="application/json")


class _Answer:
    """Lines from the generation thread to one client; a client that goes away stops the work."""

    def __init__(self, spec: GenerateSpec, scheduler: Scheduler) -> None:
        loop = asyncio.get_running_loop()
        self._lines: asyncio.Queue[GenerationLine] = asyncio.Queue()

        def deliver(line: GenerationLine) -> None:
            with suppress(RuntimeError):  # the event loop has ended with the process: nobody reads any more
                loop.call_soon_threadsafe(self._lines.put_nowait, line)

        self._job = Job(spec, deliver)
        scheduler.submit(self._job)

    async def respond(self, request: Request) -> Response:
        """Waits for the first line: only then is it known whether the request is refused."""
        first = asyncio.create_task(self._lines.get())
        gone = asyncio.create_task(_until_disconnected(request))
        try:
            await asyncio.wait({first, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            if not first.done():
                first.cancel()
                self._job.is_cancelled = True
        if self._job.is_cancelled:
            return Response(status_code=_CLIENT_CLOSED_REQUEST)
        line = first.result()
        if isinstance(line, ErrorLine):
            return _refused(line.error)
        return _LinesResponse(self._stream(line), self._job)

    async def _stream(self, line: GenerationLine) -> AsyncIterator[bytes]:
        while True:
            yield line.model_dump_json().encode() + b"\n"
            if isinstance(line, Done | ErrorLine):
                return
            line = await self._lines.get()


class _LinesResponse(StreamingResponse):
    """However the sending ends, the work ends with it."""

    def __init__(self, lines: AsyncIterator[bytes], job: Job) -> None:
        super().__init__(lines, media_type="application/x-ndjson")
        self._job = job

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._job.is_cancelled = True


async def _until_disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_BODY_BYTES:
            message = f"The request is larger than {_MAX_BODY_BYTES} bytes; send less."
            raise WorkerFailure(WorkerError(kind="usage", code="request_too_large", message=message))
    return bytes(body)


def _has_token(request: Request, token: str) -> bool:
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token.encode())


def _invalid(error: ValidationError) -> WorkerError:
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return WorkerError(
        kind="usage", code="invalid_request", message=f"{place or 'body'}: {first['msg']}.", param=place or None
    )


def _refused(error: WorkerError, *, status: int | None = None) -> Response:
    return Response(
        ErrorLine(error=error).model_dump_json(),
        status_code=status or _STATUS[error.kind],
        media_type="application/json",
    )
