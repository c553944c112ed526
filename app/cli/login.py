"""`tunesmith login`, `logout`, `whoami`: a person's log-in over the browser, by a port of this machine (RFC 8252)."""

import hashlib
import secrets
import time
import webbrowser
from base64 import urlsafe_b64encode
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Annotated
from urllib.parse import parse_qs, urlencode, urlsplit

import typer

from app.cli.client import Client, Connection, find_base_url, is_loopback
from app.cli.errors import CommandError
from app.cli.saved_logins import forget, save
from app.cli.session import Session, session_of

_DONE = (
    b"<!doctype html><meta charset=utf-8><title>Tunesmith</title><p>Go back to your terminal; this page can be closed."
)


class _Listener(HTTPServer):
    """Waits on a port of this machine for the browser that brings the code."""

    code: str | None = None

    def wait(self, seconds: float) -> str:
        """The code; `CommandError` if none comes in time."""
        deadline = time.monotonic() + seconds
        while self.code is None:
            self.timeout = deadline - time.monotonic()
            if self.timeout <= 0:
                raise CommandError(f"Nobody logged in within {seconds:.0f} s. Run `tunesmith login` again.")
            self.handle_request()
        return self.code

    def handle_error(self, *_: object) -> None:
        """A browser that hangs up is no news."""


class _Handler(BaseHTTPRequestHandler):
    server: _Listener
    timeout = 10  # a connection that says nothing

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        codes = parse_qs(parts.query).get("code", []) if parts.path == "/" else []
        self.send_response(200 if codes else 404)
        self.send_header("Content-Type", "text/html")
        self.send_header("Referrer-Policy", "no-referrer")
        self.end_headers()
        if codes:
            self.wfile.write(_DONE)
            self.server.code = codes[0]

    def log_message(self, *_: object) -> None:
        """The terminal is the person's."""


def login(
    context: typer.Context,
    team: Annotated[str | None, typer.Option(help="Which of your teams, by its slug; without it the first.")] = None,
    port: Annotated[int, typer.Option(help="Port of this machine that the browser comes back to.", min=0)] = 0,
    browser: Annotated[bool, typer.Option(help="Open the browser; --no-browser prints the address only.")] = True,
    wait_seconds: Annotated[float, typer.Option(help="How long to wait for you.")] = 300.0,
) -> None:
    """Log in with your browser. The log-in is kept in ~/.config/tunesmith, for you alone."""
    session = session_of(context)
    base_url = find_base_url(session.base_url, session.data_dir)
    if not base_url.startswith("https://") and not is_loopback(base_url):
        raise CommandError(f"{base_url} is not https: whoever is on the way could take your log-in.")
    verifier = secrets.token_urlsafe(32)
    challenge = urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    with Client(Connection(base_url, "")) as client, _Listener(("127.0.0.1", port), _Handler) as listener:
        query = {"port": listener.server_port, "challenge": challenge, **({} if team is None else {"team": team})}
        path = f"/v1/auth/login?{urlencode(query)}"
        client.check_redirects(path)
        typer.echo(f"Log in with your browser:\n\n  {base_url}{path}\n", err=True)
        if browser:
            webbrowser.open(f"{base_url}{path}")
        answer = client.post("/v1/auth/token", {"code": listener.wait(wait_seconds), "verifier": verifier})
    saved = save(base_url, answer["token"], answer["expires_at"])
    typer.echo(f"Logged in; kept in {saved} until you log out or it expires.", err=True)
    with Client(Connection(base_url, answer["token"])) as client:
        _show(session, client)


def logout(context: typer.Context) -> None:
    """End your log-in, here and at the service."""
    session = session_of(context)
    with session.client() as client:
        client.post("/v1/auth/logout", {})
        forget(client.connection.base_url)
    typer.echo("Logged out.", err=True)


def whoami(context: typer.Context) -> None:
    """Who is logged in, in which team and as what, until when."""
    session = session_of(context)
    with session.client() as client:
        _show(session, client)


def _show(session: Session, client: Client) -> None:
    found = client.get("/v1/auth/session")
    team = next((team["slug"] for team in found["teams"] if team["id"] == found["team_id"]), found["team_id"])
    session.show(
        {
            "email": found["user"]["email"],
            "team": team,
            "role": found["role"],
            "expires_at": found["expires_at"],
            "teams": [team["slug"] for team in found["teams"]],
        }
    )
