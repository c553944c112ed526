"""The edge of a request: one unit of work, committed before the first byte of the answer leaves.

FastAPI's dependencies with `yield` end after the answer was sent, so a commit there could fail behind a "200".
"""

from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any

import anyio
from anyio import to_thread
from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import ResponseValidationError
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from app.api.exchange import Exchange
from app.api.idempotency import Replay
from app.identity.policy import Permission

_EXCHANGE: ContextVar[Exchange] = ContextVar("exchange")


class WorkRoute(APIRoute):
    """Opens `request.state.exchange` before the handler; commits and closes it before the answer is sent."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, self._within(endpoint), **options)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        permission = permission_of(self.dependant)

        async def run(request: Request) -> Response:
            exchange = request.state.exchange = Exchange(request, permission)
            _EXCHANGE.set(exchange)
            try:
                response = await _answer(handle, request, exchange)
                if not exchange.is_finished:
                    await _end(request, exchange.finish, response)
            except Replay as replay:
                return replay.response()
            finally:
                # Shielded: a cancelled request must not keep a connection, nor bytes that belong to no row.
                with anyio.CancelScope(shield=True):
                    if exchange.is_finished:
                        exchange.services.work.close()
                    else:
                        await _end(request, exchange.undo)
            return response

        return run

    def _within(self, endpoint: Callable[..., Any]) -> Callable[..., Any]:
        """The handler between the check of the caller and, where it is a plain function, the commit."""
        if iscoroutinefunction(endpoint):

            @wraps(endpoint)
            async def handle(**values: Any) -> Any:
                return await endpoint(**await run_in_threadpool(_EXCHANGE.get().admitted, values))

            return handle

        @wraps(endpoint)
        def run(**values: Any) -> Any:
            exchange = _EXCHANGE.get()
            response = self._rendered(endpoint(**exchange.admitted(values)))
            for given in values.values():
                if isinstance(given, Response) and given is not response:
                    # What the handler set on the response it was given, such as a cookie.
                    response.headers.raw.extend(given.headers.raw)
            exchange.finish(response)
            return response

        return run

    def _rendered(self, answer: Any) -> Response:
        """As FastAPI would, which makes another trip between threads for it."""
        if isinstance(answer, Response):
            return answer
        if self.response_field is None:
            return Response(b"null", media_type="application/json")
        value, faults = self.response_field.validate(answer, {}, loc=("response",))
        if faults:
            raise ResponseValidationError(errors=faults, body=answer)
        return Response(
            self.response_field.serialize_json(value), self.status_code or 200, media_type="application/json"
        )


async def _end(request: Request, verb: Callable[..., None], *values: Any) -> None:
    """In a thread kept for that: an end may free a row that the handlers in all other threads wait for."""
    await to_thread.run_sync(verb, *values, limiter=request.app.state.ending_threads)


async def release(request: Request) -> None:
    """Commit what was done so far and give the connection back, before slow work in the middle of a request.

    The unit of work can be used again afterwards: its next statement begins a new transaction. Routes that wait for
    a client's bytes or for the serving engine call this first, so that slow ones cannot use up the connection pool.
    """
    await run_in_threadpool(request.state.exchange.commit)


async def keep_answer_secret(request: Request) -> None:
    """Dependency of routes whose answer holds a secret: the answer is never kept for Idempotency-Key."""
    request.state.has_secret_answer = True


def permission_of(dependant: Dependant) -> Permission | None:
    """The one right that a route asks for by `app.api.dependencies.allow`; None for the public ones."""
    waiting = [dependant]
    while waiting:
        one = waiting.pop()
        found: Permission | None = getattr(one.call, "permission", None)
        if found is not None:
            return found
        waiting += one.dependencies
    return None


async def _answer(
    handle: Callable[[Request], Coroutine[Any, Any, Response]], request: Request, exchange: Exchange
) -> Response:
    try:
        return await handle(request)
    except Exception:
        # Who may not ask at all learns that first, and nothing of what is wrong with the request.
        await run_in_threadpool(exchange.admit)
        raise
