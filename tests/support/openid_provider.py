"""An OpenID provider on a loopback port: real keys, real codes, and it misbehaves as a test tells it."""

import base64
import hashlib
import hmac
import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote_plus, urlencode, urlsplit

import httpx
from joserfc import jwk, jwt
from joserfc.jws import JWSRegistry

CLIENT_ID, CLIENT_SECRET = "tunesmith at test", "secret: of the/test"


def _encoded(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()


@dataclass
class Provider:
    """`claims` are laid over those of every token (None leaves one out); `person` is who logs in."""

    port: int = 0
    keys: list[jwk.Key] = field(default_factory=lambda: [jwk.generate_key("RSA", 2048, {"kid": "first"})])
    person: dict[str, Any] = field(
        default_factory=lambda: {"sub": "s-1", "email": "Ada@Example.com", "email_verified": True, "name": "Ada"}
    )
    claims: dict[str, Any] = field(default_factory=dict)
    description: dict[str, Any] = field(default_factory=dict)
    algorithm: str = "RS256"
    asked: list[str] = field(default_factory=list)
    is_away: bool = False
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    publishes: list[jwk.Key] | None = None
    """None: the keys that it signs with."""

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.port}/realm"

    def rotate(self) -> None:
        self.keys = [jwk.generate_key("RSA", 2048, {"kid": secrets.token_hex(4)})]

    def log_in(self, url: str) -> str:
        """What a person's browser does at the authorization endpoint; where it is sent back to."""
        query = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        assert (query["response_type"], query["client_id"]) == ("code", CLIENT_ID)
        assert query["code_challenge_method"] == "S256"
        code = secrets.token_urlsafe(16)
        self.codes[code] = query
        return f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query['state'], 'iss': self.issuer})}"

    def token(self, nonce: str) -> str:
        """An ID token as the test wants it."""
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": CLIENT_ID,
            "iat": now,
            "exp": now + 300,
            "nonce": nonce,
            **self.person,
            **self.claims,
        }
        claims = {name: value for name, value in claims.items() if value is not None}
        if self.algorithm == "none":
            head = {"alg": "none", "kid": self.keys[0].kid}
            return f"{_encoded(json.dumps(head).encode())}.{_encoded(json.dumps(claims).encode())}."
        header = {"alg": self.algorithm, "kid": self.keys[0].kid}
        if self.algorithm.startswith("HS"):
            # With the public key as the secret, by hand: no library does it any more.
            text = ".".join(_encoded(json.dumps(part).encode()) for part in (header, claims))
            public, digest = self.keys[0].as_pem(private=False), f"sha{self.algorithm[2:]}"
            return f"{text}.{_encoded(hmac.digest(public, text.encode(), digest))}"
        return jwt.encode(header, claims, self.keys[0], registry=JWSRegistry(algorithms=[self.algorithm]))

    def redeem(self, form: dict[str, str], authorization: str) -> tuple[int, dict[str, Any]]:
        """The token endpoint: each code once, with its verifier, for the client alone."""
        name, _, word = base64.b64decode(authorization.removeprefix("Basic ")).decode().partition(":")
        if (unquote_plus(name), unquote_plus(word)) != (CLIENT_ID, CLIENT_SECRET):
            return 401, {"error": "invalid_client"}
        query = self.codes.pop(form["code"], None)
        digest = hashlib.sha256(form["code_verifier"].encode()).digest()
        if (
            query is None
            or _encoded(digest) != query["code_challenge"]
            or form["redirect_uri"] != query["redirect_uri"]
        ):
            return 400, {"error": "invalid_grant"}
        return 200, {"access_token": "a", "token_type": "Bearer", "id_token": self.token(query["nonce"])}

    def answer(self, path: str) -> tuple[int, dict[str, Any]]:
        self.asked.append(path)
        if self.is_away:
            return 503, {}
        if path == "/realm/.well-known/openid-configuration":
            here = f"http://127.0.0.1:{self.port}"
            return 200, {
                "issuer": self.issuer,
                "authorization_endpoint": f"{here}/authorize",
                "token_endpoint": f"{here}/token",
                "jwks_uri": f"{here}/keys",
                **self.description,
            }
        keys = self.keys if self.publishes is None else self.publishes
        return 200, {"keys": [{**key.as_dict(private=False), "use": "sig"} for key in keys]}


@contextmanager
def providing() -> Iterator[Provider]:
    provider = Provider()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._say(*provider.answer(self.path))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"])).decode()
            form = {name: values[0] for name, values in parse_qs(body).items()}
            provider.asked.append(self.path)
            self._say(*provider.redeem(form, self.headers.get("authorization", "")))

        def _say(self, status: int, value: dict[str, Any]) -> None:
            body = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    provider.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


class Browser:
    """A person's browser: follows the log-in by hand and keeps cookies as browsers do."""

    def __init__(self, client: httpx.Client, provider: Provider) -> None:
        self.client = client
        self.provider = provider

    def begin(self, **query: str | int) -> str:
        """To the provider; the address to ask there."""
        answer = self.client.get("/v1/auth/login", params=query, follow_redirects=False)
        assert answer.status_code == 303, answer.text
        return answer.headers["location"]

    def come_back(self, address: str) -> httpx.Response:
        parts = urlsplit(address)
        return self.client.get(f"{parts.path}?{parts.query}", follow_redirects=False)

    def log_in(self, **query: str | int) -> httpx.Response:
        return self.come_back(self.provider.log_in(self.begin(**query)))
