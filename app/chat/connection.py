"""Stops work whose caller has gone away."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import Request

Result = TypeVar("Result")


class CallerGone(Exception):  # noqa: N818 - nothing went wrong on our side
    """The connection was closed before the answer was ready; nobody reads what we return."""


async def while_connected(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """The result of `work`; it is cancelled, and `CallerGone` raised, once the caller hangs up.

    To be used only after the body was read: it consumes what the connection receives.
    """
    task = asyncio.ensure_future(work)
    watcher = asyncio.ensure_future(_hang_up(request))
    try:
        await asyncio.wait({task, watcher}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise CallerGone
        return task.result()
    finally:
        task.cancel()
        watcher.cancel()  # not awaited: some servers wait for the end of the response in there
        await asyncio.gather(task, return_exceptions=True)


async def _hang_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
