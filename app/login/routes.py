"""/v1/auth: people log in at the OpenID provider, see their session, and log out.

The database is never held while the provider is asked: each step is a short transaction of its own.
"""

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, RedirectResponse, Response

from app.api.dependencies import ContextDep, ServicesDep, allow
from app.api.edge import WorkRoute, release
from app.api.session_cookie import LOGIN, SESSION, drop, keep
from app.errors import AppError, InvalidInput
from app.factory import Services
from app.identity.admission import NotAdmitted
from app.identity.caller import Caller
from app.identity.policy import Permission
from app.login.id_token import BadToken
from app.login.pages import page
from app.login.provider import BadCode, OpenIdProvider
from app.login.schemas import SessionEnded, SessionObject, TokenCreate, TokenObject, session_object, token_object
from app.login.service import ANSWER_LIVES, Arrival, Program, Waiting, reason_of

router = APIRouter(prefix="/v1/auth", route_class=WorkRoute, tags=["Log-in"])
Anybody = Annotated[Caller, Depends(allow(Permission.SESSION_OWN))]
Text = Annotated[str | None, Query(max_length=2048)]


async def _provider(request: Request) -> OpenIdProvider:
    """`NotFound` where log-in is off."""
    provider: OpenIdProvider = request.app.state.openid
    provider.require_on()
    return provider


ProviderDep = Annotated[OpenIdProvider, Depends(_provider)]


@router.get("/login", response_class=RedirectResponse, status_code=303)
async def begin_login(
    *,
    request: Request,
    services: ServicesDep,
    provider: ProviderDep,
    team: Annotated[str | None, Query(max_length=64)] = None,
    port: Annotated[int | None, Query(ge=1024, le=65535)] = None,
    challenge: Annotated[str | None, Query(pattern=r"^[A-Za-z0-9_-]{43}$")] = None,
) -> Response:
    """Go to the provider and come back logged in, to `team` if several are yours; open it in a browser.

    A program on your machine adds a port of its own and the SHA-256 of a secret, and is given a code there.
    """
    if (port is None) != (challenge is None):
        raise InvalidInput("A program sends both 'port' and 'challenge'.", param="challenge")
    program = None if port is None or challenge is None else Program(port, challenge)
    begun = await run_in_threadpool(lambda: services.login.begin(team=team, program=program))
    await release(request)
    url = await provider.authorization_url(state=begun.state, nonce=begun.nonce, verifier=begun.verifier)
    answer = RedirectResponse(url, 303, headers={"cache-control": "no-store"})
    keep(answer, LOGIN, begun.browser, seconds=int(ANSWER_LIVES.total_seconds()))
    return answer


@router.get("/callback", response_class=HTMLResponse)
async def end_login(
    *,
    request: Request,
    services: ServicesDep,
    provider: ProviderDep,
    context: ContextDep,
    state: Text = None,
    code: Text = None,
    error: Text = None,
    iss: Text = None,
) -> Response:
    """Where the provider sends the browser back to. A page for the person, or on to the session."""
    try:
        waiting = await run_in_threadpool(services.login.come_back, state or "", request.cookies.get(LOGIN))
        await release(request)
        if code is None or error is not None:
            raise InvalidInput(f"The provider did not log you in ({error or 'no code'}).", code="login_refused")
        arrival = await _ask(services, provider, waiting, code, iss)
    except AppError as fault:
        arrival = fault
    if not isinstance(arrival, Arrival):
        answer: Response = page("Not logged in", arrival.message, status=arrival.status)
    elif arrival.program is not None:
        answer = _hand_over(arrival, arrival.program)
    else:
        answer = RedirectResponse("/v1/auth/session", 303, headers={"cache-control": "no-store"})
        keep(answer, SESSION, arrival.secret, seconds=round(context.settings.session_hours * 3600))
    drop(answer, LOGIN)
    return answer


async def _ask(
    services: Services, provider: OpenIdProvider, waiting: Waiting, code: str, iss: str | None
) -> Arrival | AppError:
    try:
        claims = await provider.claims(code, issuer=iss, nonce=waiting.nonce, verifier=waiting.verifier)
    except BadCode:
        return InvalidInput(
            "The provider does not take this code: it was used, is too old, or came from elsewhere.",
            code="login_refused",
        )
    except BadToken as fault:
        await run_in_threadpool(services.login.refuse, provider.issuer, reason_of(fault))
        return NotAdmitted(
            "What the provider sent does not prove who you are. Tell the people who run this service.",
            code="login_not_proven",
        )
    return await run_in_threadpool(services.login.arrive, waiting, claims)


def _hand_over(arrival: Arrival, program: Program) -> Response:
    """The person goes on by hand: a page that lured somebody here gets no session without being noticed."""
    text = (
        f"A program on this computer (port {program.port}) asks to act as {arrival.user.email} in the team "
        f"'{arrival.place.slug}'. Go on only if you have just run `tunesmith login` yourself."
    )
    back = f"http://127.0.0.1:{program.port}/?{urlencode({'code': arrival.secret})}"
    return page("Log in the command line?", text, link=(back, "Yes, I have just run tunesmith login"))


@router.post("/token")
def create_token(provider: ProviderDep, services: ServicesDep, body: TokenCreate) -> TokenObject:
    """For the command line: the session's token for the code that came to its port."""
    del provider
    return token_object(*services.login.redeem(body.code, body.verifier))


@router.get("/session")
def get_session(caller: Anybody, services: ServicesDep) -> SessionObject:
    """Who is logged in, in which team, until when; 404 for an API key."""
    return session_object(*services.login.session(caller))


@router.post("/logout")
def end_session(caller: Anybody, services: ServicesDep, response: Response) -> SessionEnded:
    """Log out: the session stops with the next request, on every server; 404 for an API key."""
    services.identity.end_session(caller)
    drop(response, SESSION)
    return SessionEnded(id=caller.key_id)
