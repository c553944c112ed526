"""What a route asks for by type: the services of this request, the caller, the row it is about."""

from typing import Annotated, Any, NoReturn

from fastapi import Depends, Request
from fastapi.security import HTTPBearer
from starlette.requests import HTTPConnection

from app.api.exchange import Exchange, OfExchange
from app.context import Context
from app.db.look import Question
from app.factory import Services
from app.identity.caller import Caller
from app.identity.policy import Permission


async def _context(request: Request) -> Context:
    """No input or output; `async` saves it a trip to another thread."""
    context: Context = request.app.state.context
    return context


ContextDep = Annotated[Context, Depends(_context)]


class allow(HTTPBearer, OfExchange):  # noqa: N801 - read as a verb, where a route names its right
    """A dependency that lets the caller pass only with this right. Every route has exactly one.

    `app.api.edge` checks key and right in the handler's own thread, before the handler's first line, and hands it the
    `Caller`. To FastAPI it is the scheme of the documents.
    """

    def __init__(self, permission: Permission) -> None:
        super().__init__(scheme_name="HTTPBearer", description="An API key of a team", auto_error=False)
        self.permission = permission

    async def __call__(self, request: HTTPConnection) -> NoReturn:  # noqa: ARG002 - as it is called
        raise RuntimeError("a right is checked by the edge: the route must be a WorkRoute")

    def of(self, exchange: Exchange) -> Caller | None:
        return exchange.caller


class at_once(OfExchange):  # noqa: N801 - as `allow`
    """A dependency that asks for one row in the round trip in which the caller's key is looked up.

    The handler gets the row, or None if the caller's team has no such one. The question's parameters are those of the
    route's path. It runs in the event loop: what asks the database there needs a thread.
    """

    def __init__(self, question: Question[Any]) -> None:
        self.question = question

    async def __call__(self) -> NoReturn:
        raise RuntimeError("the row is found by the edge: the route must be a WorkRoute")

    def of(self, exchange: Exchange) -> Any:
        return None if exchange.look is None else exchange.look.row


class _ServicesOf(OfExchange):
    """Services over the request's unit of work, which `app.api.edge` commits and closes."""

    async def __call__(self) -> NoReturn:
        raise RuntimeError("the unit of work is the edge's: the route must be a WorkRoute")

    def of(self, exchange: Exchange) -> Services:
        return exchange.services


ServicesDep = Annotated[Services, Depends(_ServicesOf())]
