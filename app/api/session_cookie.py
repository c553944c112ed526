"""The session of a browser: a cookie that only the browser holds, and writes that only our own pages can cause."""

from urllib.parse import urlsplit

from fastapi import Request
from starlette.responses import Response

from app.context import Context
from app.errors import Forbidden

# The prefix makes browsers refuse it from other hosts, over plain http, and for a part of the site only.
SESSION = "__Host-tunesmith-session"
LOGIN = "__Host-tunesmith-login"
_READING = frozenset({"GET", "HEAD", "OPTIONS"})


def keep(response: Response, name: str, value: str, *, seconds: int) -> None:
    """Set a cookie that scripts cannot read and other sites' forms do not send."""
    response.set_cookie(name, value, max_age=seconds, path="/", secure=True, httponly=True, samesite="lax")


def drop(response: Response, name: str) -> None:
    response.delete_cookie(name, path="/", secure=True, httponly=True, samesite="lax")


def session_text(request: Request) -> str | None:
    """The text of the browser's session, None without one. `Forbidden` for a write that another site caused."""
    text = request.cookies.get(SESSION)
    if text is not None and request.method not in _READING and not _is_ours(request):
        raise Forbidden(
            "This request changes something and does not come from a page of this service. "
            "Programs send a key in the header 'Authorization' instead of a cookie.",
            code="cross_site_request",
        )
    return text


def _is_ours(request: Request) -> bool:
    """By what browsers say of where a request comes from; a page cannot set either header. Neither there: not ours."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    context: Context = request.app.state.context
    public, origin = context.settings.public_url, request.headers.get("origin")
    return public is not None and origin is not None and urlsplit(origin)[:2] == urlsplit(public)[:2]
