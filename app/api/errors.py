"""Renders every error once, as `{"error": {message, type, param, code}}`."""

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from app.contracts.errors import is_disk_full
from app.db.idempotency import KeyInUse
from app.errors import AppError, InvalidInput, NotFound, QuotaExceeded, StorageFull, Unavailable
from app.logs import logger

_MAX_FAULTS = 5


def error_body(message: str, type_: str, *, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": type_, "param": param, "code": code}}


def render(error: AppError) -> JSONResponse:
    headers = {}
    if error.status == 409:
        # OpenAI's clients try a 409 again unless told not to.
        headers["x-should-retry"] = "true" if isinstance(error, KeyInUse) else "false"
    if isinstance(error, QuotaExceeded):
        # So do they with a 429, but a limit that is used up is not free again in a moment.
        headers["x-should-retry"] = "false"
    if error.status == 401:
        headers["www-authenticate"] = "Bearer"
    body = error_body(error.message, error.type, param=error.param, code=error.code)
    return JSONResponse(body, error.status, headers=headers)


def install(app: FastAPI) -> None:
    """Register the handlers. What they do not know ends in the middleware, as a 500 without internals."""
    app.add_exception_handler(AppError, _on_app_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(DBAPIError, _on_database_fault)
    app.add_exception_handler(PoolTimeout, _on_database_away)
    app.add_exception_handler(OSError, _on_storage_fault)
    app.add_exception_handler(ClientDisconnect, _on_disconnect)


async def _on_app_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, AppError)  # noqa: S101 - what the registration promises
    return render(error)


async def _on_validation_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - what the registration promises
    return render(describe(error.errors(), error.body))


async def _on_http_exception(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 - what the registration promises
    where = f"{request.method} {request.url.path}"
    if error.status_code == 404:
        return render(NotFound(f"Invalid URL ({where})"))
    if error.status_code == 405:
        message = (
            f"Not allowed to {request.method} on {request.url.path}. (HINT: Perhaps you meant another HTTP method?)"
        )
        body = error_body(message, "invalid_request_error", code="method_not_supported")
        return JSONResponse(body, 405, headers=error.headers)
    type_ = "invalid_request_error" if error.status_code < 500 else "server_error"
    return JSONResponse(error_body(str(error.detail), type_), error.status_code, headers=error.headers)


async def _on_disconnect(_: Request, __: Exception) -> Response:
    return Response(status_code=499)  # nobody reads it; the number is nginx's for "client closed request"


async def _on_database_fault(request: Request, error: Exception) -> JSONResponse:
    """Away, or the connection was ended in the middle; any other fault of a statement is ours."""
    assert isinstance(error, DBAPIError)  # noqa: S101 - what the registration promises
    if isinstance(error, OperationalError) or error.connection_invalidated:
        return await _on_database_away(request, error)
    raise error


async def _on_database_away(_: Request, error: Exception) -> JSONResponse:
    logger.error("the database did not answer a request: %s", error)
    return render(Unavailable("The service cannot reach its database right now. Try again in a moment."))


async def _on_storage_fault(_: Request, error: Exception) -> JSONResponse:
    if not is_disk_full(error):
        raise error
    logger.error("a request found no room to write: %s", error)
    return render(StorageFull("The service's storage is full; nothing of this request was kept. Tell its operator."))


def describe(faults: Sequence[Any], body: Any) -> InvalidInput:
    """One readable error for what pydantic found; `param` is the path of the first fault in the sender's terms."""
    if len(faults) == 1 and tuple(faults[0]["loc"]) == ("body",):
        return InvalidInput(
            "The body must be a JSON object, sent with the header 'Content-Type: application/json'.",
            code="invalid_body",
        )
    sentences: dict[str, list[str]] = {}
    for fault in faults:
        sentences.setdefault(_path(fault, body), []).append(_sentence(fault))
    parts = []
    for path, found in list(sentences.items())[:_MAX_FAULTS]:
        parts.append(found[0] if found[0].startswith("Missing") else f"Invalid value for '{path}': {_joined(found)}.")
    if len(sentences) > _MAX_FAULTS:
        parts.append(f"And {len(sentences) - _MAX_FAULTS} more.")
    first = faults[0]
    code = "missing_required_parameter" if first["type"] == "missing" else "invalid_value"
    return InvalidInput(" ".join(parts), param=_path(first, body) or None, code=code)


def _path(fault: Any, body: Any) -> str:
    """`loc` without what the sender never wrote: the place word (body, query) and the names of union members."""
    place, *parts = fault["loc"]
    if place != "body":
        return ".".join(str(part) for part in parts)
    path = ""
    current = body
    for position, part in enumerate(parts):
        is_last = position == len(parts) - 1
        if isinstance(current, dict) and (part in current or (is_last and fault["type"] == "missing")):
            path += f".{part}" if path else str(part)
            current = current.get(part)
        elif isinstance(current, list) and isinstance(part, int) and part < len(current):
            path += f"[{part}]"
            current = current[part]
    return path


def _sentence(fault: Any) -> str:
    if fault["type"] == "missing":
        return f"Missing required parameter: '{fault['loc'][-1]}'."
    message = str(fault["msg"]).removeprefix("Value error, ").rstrip(".")
    return message[:1].lower() + message[1:]


def _joined(found: list[str]) -> str:
    return ", or ".join(dict.fromkeys(found))
