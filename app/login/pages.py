"""The two pages that a person sees while logging in: words, one link at most, no script."""

from html import escape

from starlette.responses import HTMLResponse

_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
_STYLE = "body{font:16px/1.5 system-ui,sans-serif;max-width:36em;margin:15vh auto;padding:0 1em}"


def page(title: str, text: str, *, link: tuple[str, str] | None = None, status: int = 200) -> HTMLResponse:
    """`link` is an address and its words; everything is escaped here."""
    anchor = "" if link is None else f'<p><a href="{escape(link[0])}">{escape(link[1])}</a></p>'
    return HTMLResponse(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
        f"<h1>{escape(title)}</h1><p>{escape(text)}</p>{anchor}</html>",
        status,
        headers=_HEADERS,
    )
