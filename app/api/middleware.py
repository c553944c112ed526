"""What surrounds every request: its id, its time, its size limit, and the last net under every fault."""

import hashlib
import re
import time

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.errors import error_body, render
from app.api.json_guard import BadJson, check_json
from app.errors import InvalidInput, TooLarge
from app.ids import Prefix, new_id
from app.logs import bind, logger

_CLIENT_REQUEST_ID = re.compile(r"[\x20-\x7e]{1,512}")
# These read their multipart bodies themselves, with limits of their own, while they arrive.
_STREAMED_BODIES = re.compile(r"/v1/files|/v1/uploads/[^/]+/parts")
# Above this, checking a body would hold up the event loop for more than about a millisecond.
_CHECK_IN_THREAD_BYTES = 64 * 1024


class RequestMiddleware:
    """Headers OpenAI's clients read; an unexpected fault becomes a 500 with the request id and no internals."""

    def __init__(self, app: ASGIApp, organization: str) -> None:
        self._app = app
        self._organization = organization

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = new_id(Prefix.REQUEST)
        bind(request_id=request_id)
        started = time.perf_counter()
        has_started = False

        async def send_with_headers(message: Message) -> None:
            nonlocal has_started
            if message["type"] == "http.response.start":
                has_started = True
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = request_id
                headers["openai-processing-ms"] = str(round((time.perf_counter() - started) * 1000))
                headers["openai-version"] = "2020-10-01"
                headers["openai-organization"] = self._organization
            await send(message)

        refusal = _refusal(scope)
        if refusal is not None:
            await render(refusal)(scope, receive, send_with_headers)
            return
        try:
            await self._app(scope, receive, send_with_headers)
        except Exception:
            logger.exception("unexpected fault in %s %s", scope["method"], scope["path"])
            if has_started:
                raise  # the server cuts the connection: a broken body must not look whole
            message = (
                "The server had an error while processing your request. "
                f"Tell the people who run it, with the request id {request_id}."
            )
            await JSONResponse(error_body(message, "server_error"), 500)(scope, receive, send_with_headers)


def _refusal(scope: Scope) -> InvalidInput | None:
    if "\x00" in scope["path"] or b"%00" in scope["query_string"]:
        return InvalidInput("The URL holds the character U+0000.")
    client_id = Headers(scope=scope).get("x-client-request-id")
    if client_id is not None and _CLIENT_REQUEST_ID.fullmatch(client_id) is None:
        return InvalidInput("The header X-Client-Request-Id must have 1 to 512 printable ASCII characters.")
    return None


class BodyMiddleware:
    """Reads each body up to a limit, refuses hostile JSON, and leaves the body's hash in `state`.

    The hash (`body_sha256`) is part of the fingerprint of Idempotency-Key.
    """

    def __init__(self, app: ASGIApp, max_body_bytes: int) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in {"GET", "HEAD", "OPTIONS"}:
            await self._app(scope, receive, send)
            return
        if _STREAMED_BODIES.fullmatch(scope["path"]) is not None:
            await self._app(scope, receive, send)
            return
        try:
            body = await self._read(Headers(scope=scope), receive)
        except _Disconnected:
            return
        except (TooLarge, InvalidInput) as error:
            await render(error)(scope, receive, send)
            return
        scope.setdefault("state", {})["body_sha256"] = hashlib.sha256(body).hexdigest()
        await self._app(scope, _replay(body, receive), send)

    async def _read(self, headers: Headers, receive: Receive) -> bytes:
        declared = headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > self._max_body_bytes:
            raise self._too_large()
        body = bytearray()
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _Disconnected
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > self._max_body_bytes:
                raise self._too_large()
        if body and "json" in headers.get("content-type", "application/json").lower():
            await _check(bytes(body))
        return bytes(body)

    def _too_large(self) -> TooLarge:
        return TooLarge(
            f"The body is larger than the {self._max_body_bytes} bytes this server takes. "
            "Send large data as a file with POST /v1/files.",
            code="body_too_large",
        )


class _Disconnected(Exception):  # noqa: N818 - nobody is left to be told
    """The client went away before its body was whole."""


async def _check(body: bytes) -> None:
    try:
        if len(body) > _CHECK_IN_THREAD_BYTES:
            await run_in_threadpool(check_json, body)
        else:
            check_json(body)
    except BadJson as error:
        raise InvalidInput(f"We could not parse the JSON body of your request: {error}.", code="invalid_json") from None


def _replay(body: bytes, receive: Receive) -> Receive:
    is_sent = False

    async def receive_again() -> Message:
        nonlocal is_sent
        if is_sent:
            return await receive()
        is_sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again
