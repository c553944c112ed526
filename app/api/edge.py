"""The edge of a request: one unit of work, committed before the first byte of the answer leaves.

FastAPI's dependencies with `yield` end after the answer was sent, so a commit there could fail behind a "200".
"""

from collections.abc import Callable, Coroutine
from typing import Any

import anyio
from fastapi import Request
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from app.api.idempotency import Replay, store
from app.context import Context
from app.db.engine import UnitOfWork
from app.db.idempotency import Reservation, forget
from app.db.scope import team_scope


class WorkRoute(APIRoute):
    """Opens `request.state.work` before the handler; commits and closes it before the answer is sent."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def run(request: Request) -> Response:
            context: Context = request.app.state.context
            # Lazy: connects at the first statement.
            work = context.database.open()
            request.state.work = work
            is_done = False
            try:
                response = await handle(request)
                await run_in_threadpool(_finish, request, work, response)
                is_done = True
            except Replay as replay:
                return replay.response()
            finally:
                # Shielded: a cancelled request must not keep a connection, nor bytes that belong to no row.
                with anyio.CancelScope(shield=True):
                    if is_done:
                        work.close()
                    else:
                        await run_in_threadpool(_undo, request, work, context)
            return response

        return run


async def release(request: Request) -> None:
    """Commit what was done so far and give the connection back, before slow work in the middle of a request.

    The unit of work can be used again afterwards: its next statement begins a new transaction. Routes that wait for
    a client's bytes or for the serving engine call this first, so that slow ones cannot use up the connection pool.
    """
    await run_in_threadpool(_release, request)


async def keep_answer_secret(request: Request) -> None:
    """Dependency of routes whose answer holds a secret: the answer is never kept for Idempotency-Key."""
    request.state.has_secret_answer = True


def _reservation(request: Request) -> Reservation | None:
    reservation: Reservation | None = getattr(request.state, "reservation", None)
    return reservation


def _release(request: Request) -> None:
    work: UnitOfWork = request.state.work
    work.commit()
    reservation = _reservation(request)
    if reservation is not None:
        reservation.is_committed = True


def _finish(request: Request, work: UnitOfWork, response: Response) -> None:
    reservation = _reservation(request)
    if reservation is not None:
        store(work, reservation, response)
    work.commit()


def _undo(request: Request, work: UnitOfWork, context: Context) -> None:
    work.close()
    reservation = _reservation(request)
    if reservation is not None and reservation.is_committed:
        with context.database.unit_of_work(team_scope(reservation.team_id)) as other:
            forget(other.session, reservation)
