"""The edge of a request: one unit of work, committed before the first byte of the answer leaves.

FastAPI's dependencies with `yield` end after the answer was sent, so a commit there could fail behind a "200".
"""

from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from dataclasses import replace
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

from app.api.dependencies import at_once
from app.api.exchange import Exchange, OfExchange
from app.api.idempotency import Replay
from app.db.look import Question
from app.identity.policy import Permission

_EXCHANGE: ContextVar[Exchange] = ContextVar("exchange")


class WorkRoute(APIRoute):
    """Opens `request.state.exchange` before the handler; commits and closes it before the answer is sent."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, self._within(endpoint), **options)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        permission, question = permission_of(self.dependant), _question_of(self.dependant)
        if question is not None and not iscoroutinefunction(self.endpoint):
            raise TypeError(
                f"{self.path}: a handler that has its row at once runs in the event loop: write it as async"
            )
        handle = self._without_own()

        async def run(request: Request) -> Response:
            exchange = request.state.exchange = Exchange(request, permission, question)
            _EXCHANGE.set(exchange)
            try:
                response = await _answer(handle, request, exchange)
                if not exchange.is_finished:
                    await _end(request, exchange.finish, response)
            except Replay as replay:
                return replay.response()
            finally:
                if not exchange.is_finished:
                    # Shielded: a cancelled request must not keep a connection, nor bytes that belong to no row.
                    with anyio.CancelScope(shield=True):
                        await _end(request, exchange.undo)
            return response

        return run

    def _without_own(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler, which need not solve at each request what the edge gives itself.

        The route's description keeps all.
        """
        whole = self.dependant
        self._own = {one.name: found for one in whole.dependencies if one.name and (found := _own(one)) is not None}
        self.dependant = replace(whole, dependencies=[one for one in whole.dependencies if _own(one) is None])
        try:
            return super().get_route_handler()
        finally:
            self.dependant = whole

    def _within(self, endpoint: Callable[..., Any]) -> Callable[..., Any]:
        """The handler between the check of the caller and, where it is a plain function, the commit."""
        if iscoroutinefunction(endpoint):

            @wraps(endpoint)
            async def handle(**values: Any) -> Any:
                exchange = _EXCHANGE.get()
                if exchange.look is None:
                    return await endpoint(**values, **await run_in_threadpool(self._given, exchange))
                await exchange.admit_by_look(exchange.look)
                return self._rendered(await endpoint(**values, **self._given(exchange)))

            return handle

        @wraps(endpoint)
        def run(**values: Any) -> Any:
            exchange = _EXCHANGE.get()
            response = self._rendered(endpoint(**values, **self._given(exchange)))
            for given in values.values():
                if isinstance(given, Response) and given is not response:
                    # What the handler set on the response it was given, such as a cookie.
                    response.headers.raw.extend(given.headers.raw)
            exchange.finish(response)
            return response

        return run

    def _given(self, exchange: Exchange) -> dict[str, Any]:
        """The arguments that are not the request's, once the caller is admitted."""
        exchange.admit()
        return {name: one.of(exchange) for name, one in self._own.items()}

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
    if request.state.exchange.is_untouched:
        verb(*values)
        return
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


def _question_of(dependant: Dependant) -> Question[Any] | None:
    """What is asked beside the key; at most one row (`app.api.dependencies.at_once`)."""
    found = [own.question for one in dependant.dependencies if isinstance(own := _own(one), at_once)]
    return found[0] if found else None


def _own(dependant: Dependant) -> OfExchange | None:
    call: object = dependant.call
    return call if isinstance(call, OfExchange) else None


async def _answer(
    handle: Callable[[Request], Coroutine[Any, Any, Response]], request: Request, exchange: Exchange
) -> Response:
    try:
        return await handle(request)
    except Exception:
        # Who may not ask at all learns that first, and nothing of what is wrong with the request.
        if exchange.is_judged:
            raise
        if exchange.look is None:
            await run_in_threadpool(exchange.admit)
        else:
            await exchange.admit_by_look(exchange.look)
        raise
