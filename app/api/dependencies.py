"""What a route asks for by type: the services of this request, the caller, a page."""

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPBearer
from starlette.requests import HTTPConnection

from app.api.exchange import Exchange
from app.context import Context
from app.factory import Services
from app.identity.policy import Permission


# These do no input or output; `async` saves them a trip to another thread.
async def _context(request: Request) -> Context:
    context: Context = request.app.state.context
    return context


async def _services(request: Request) -> Services:
    """Services over the request's unit of work, which `app.api.edge` commits and closes."""
    exchange: Exchange = request.state.exchange
    return exchange.services


ContextDep = Annotated[Context, Depends(_context)]
ServicesDep = Annotated[Services, Depends(_services)]


class allow(HTTPBearer):  # noqa: N801 - read as a verb, where a route names its right
    """A dependency that lets the caller pass only with this right. Every route has exactly one.

    It gives the exchange in the caller's place: `app.api.edge` checks key and right in the handler's own thread, before
    the handler's first line, and hands it the `Caller`.
    """

    def __init__(self, permission: Permission) -> None:
        super().__init__(scheme_name="HTTPBearer", description="An API key of a team", auto_error=False)
        self.permission = permission

    async def __call__(self, request: HTTPConnection) -> Exchange:  # type: ignore[override]  # no credentials yet
        exchange: Exchange = request.state.exchange
        return exchange
