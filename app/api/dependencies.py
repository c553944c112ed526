"""What a route asks for by type: the services of this request, the caller, a page."""

from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPBearer
from fastapi.security.http import HTTPAuthorizationCredentials

from app.api.idempotency import begin
from app.api.session_cookie import session_text
from app.context import Context
from app.db.engine import UnitOfWork
from app.errors import Forbidden, Unauthorized
from app.factory import Services
from app.identity.caller import Caller
from app.identity.policy import Permission, is_allowed

_bearer = HTTPBearer(auto_error=False, description="An API key of a team")


# These two do no input or output; `async` saves them a trip to another thread.
async def _context(request: Request) -> Context:
    context: Context = request.app.state.context
    return context


async def _services(request: Request) -> Services:
    """Services over the request's unit of work, which `app.api.edge` commits and closes."""
    work: UnitOfWork = request.state.work
    return Services(request.app.state.context, work)


ContextDep = Annotated[Context, Depends(_context)]
ServicesDep = Annotated[Services, Depends(_services)]


def _caller(
    request: Request,
    services: ServicesDep,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> Caller:
    text = session_text(request) if credentials is None else credentials.credentials
    if text is None:
        raise Unauthorized(
            "You didn't provide an API key. Send it in the header 'Authorization: Bearer YOUR_KEY'.",
            code="invalid_api_key",
        )
    return services.identity.authenticate(text)


CallerDep = Annotated[Caller, Depends(_caller)]


def allow(permission: Permission) -> Callable[[Request, Caller, Services], Caller]:
    """A dependency that lets the caller pass only with this right. Every route has exactly one.

    It also honours Idempotency-Key. Routes that read their own body have no hash of it yet and call
    `app.api.idempotency.begin` themselves once they have.
    """

    def check(request: Request, caller: CallerDep, services: ServicesDep) -> Caller:
        if not caller.may(permission):
            what = "is narrowed to other rights than" if is_allowed(caller.role, permission) else "does not include"
            raise Forbidden(
                f"Your API key has the role '{caller.role}' and {what} '{permission}'. "
                "Ask an admin of your team for a key that includes it.",
                code="insufficient_permissions",
            )
        body_sha256: str | None = getattr(request.state, "body_sha256", None)
        if body_sha256 is not None:
            begin(request, services.work, caller, body_sha256=body_sha256)
        return caller

    check.permission = permission  # type: ignore[attr-defined]  # read by the test that walks all routes
    return check
