"""The OpenID provider over HTTP: its description, its keys, and a code turned into claims.

Asked without blocking a thread: a provider that hangs holds up nothing but its own log-ins.
"""

import asyncio
import hashlib
import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx

from app.clock import Clock
from app.errors import NotFound, Unavailable
from app.login.id_token import BadToken, Claims, Expected, UnknownKey, verified_claims
from app.logs import logger
from app.settings import Settings

TIMEOUT_SECONDS = 5.0
_MAX_ANSWER_BYTES = 1024 * 1024
_KEEP_FOR = timedelta(hours=1)
# A token that names a key we do not know makes us ask again, this often at most, whoever sends such tokens.
_ASK_AGAIN_AFTER = timedelta(seconds=30)
_WAIT_AFTER_FAULT = timedelta(seconds=5)


@dataclass(frozen=True)
class Description:
    """What the provider's discovery document says (OpenID Connect Discovery 1.0)."""

    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    names_itself: bool
    """Answers carry `iss` (RFC 9207)."""
    secret_in_body: bool


@dataclass
class _Kept:
    """An answer of the provider, or that there was none."""

    value: Mapping[str, Any] | None = None
    asked_at: datetime | None = None


class BadCode(Exception):  # noqa: N818 - named after what it is
    """The provider does not take the code: it was used, is too old, or came from elsewhere."""


class OpenIdProvider:
    """One provider, for the life of a process."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._issuer = settings.oidc_issuer or ""
        self._client_id = settings.oidc_client_id or ""
        self._lock = asyncio.Lock()
        self._kept: dict[str, _Kept] = {}
        # A provider on this machine is not behind the environment's proxy.
        is_local = (urlsplit(self._issuer).hostname or "") in {"localhost", "127.0.0.1"}
        self._http = httpx.AsyncClient(timeout=TIMEOUT_SECONDS, follow_redirects=False, trust_env=not is_local)

    @property
    def issuer(self) -> str:
        return self._issuer

    @property
    def redirect_uri(self) -> str:
        """Where the provider sends the browser back to; registered there, character for character."""
        return f"{self._settings.public_url}/v1/auth/callback"

    def require_on(self) -> None:
        """`NotFound` where nobody can log in, because no provider is set."""
        if not self._issuer:
            raise NotFound(
                "Log-in of people is off here: use an API key. An operator turns it on with TUNESMITH_OIDC_ISSUER.",
                code="login_disabled",
            )

    async def authorization_url(self, *, state: str, nonce: str, verifier: str) -> str:
        """Where to send the browser; `Unavailable` if the provider does not describe itself."""
        description = await self._description()
        challenge = urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        query = {
            "response_type": "code",
            "client_id": self._client_id,
            "redirect_uri": self.redirect_uri,
            "scope": self._settings.oidc_scopes,
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        joint = "&" if urlsplit(description.authorization_endpoint).query else "?"
        return f"{description.authorization_endpoint}{joint}{urlencode(query)}"

    async def claims(self, code: str, *, issuer: str | None, nonce: str, verifier: str) -> Claims:
        """The claims behind a code. `issuer` is what the answer says it came from (RFC 9207: no mix-up of providers).

        `BadCode` if the provider refuses the code or did not send it, `BadToken` if what it gives proves nothing.
        """
        description = await self._description()
        if issuer != self._issuer and (issuer is not None or description.names_itself):
            # Anybody can send such an answer, so it is no matter for the audit log.
            logger.warning("an answer to a log-in says that it came from %r, not from our provider", issuer)
            raise BadCode
        token = await self._redeem(description, code, verifier)
        expected = Expected(self._issuer, self._client_id, nonce)
        now = self._clock.now().timestamp()
        try:
            return verified_claims(token, await self._keys(description), expected, now=now)
        except UnknownKey:
            return verified_claims(token, await self._keys(description, again=True), expected, now=now)

    async def aclose(self) -> None:
        await self._http.aclose()

    async def _description(self) -> Description:
        url = f"{self._issuer.rstrip('/')}/.well-known/openid-configuration"
        found = await self._known(url)
        if found.get("issuer") != self._issuer:
            raise _away(f"its description is of the issuer {found.get('issuer')!r}")
        methods = found.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
        return Description(
            authorization_endpoint=self._address(found, "authorization_endpoint"),
            token_endpoint=self._address(found, "token_endpoint"),
            jwks_uri=self._address(found, "jwks_uri"),
            names_itself=found.get("authorization_response_iss_parameter_supported") is True,
            secret_in_body="client_secret_basic" not in methods,
        )

    def _address(self, found: Mapping[str, Any], name: str) -> str:
        """An address of the description, no less safe than the issuer's own."""
        value = found.get(name)
        if not isinstance(value, str) or not value.startswith(("https://", f"{urlsplit(self._issuer).scheme}://")):
            raise _away(f"its description has no usable {name}")
        return value

    async def _keys(self, description: Description, *, again: bool = False) -> Sequence[Mapping[str, Any]]:
        found = (await self._known(description.jwks_uri, again=again)).get("keys")
        if not isinstance(found, list):
            raise _away("it publishes no keys")
        return [key for key in found if isinstance(key, dict)]

    async def _known(self, url: str, *, again: bool = False) -> Mapping[str, Any]:
        """The JSON object at `url`, asked for once an hour; `again`: anew, unless it was asked for just now."""
        async with self._lock:
            kept, now = self._kept.setdefault(url, _Kept()), self._clock.now()
            lives = _WAIT_AFTER_FAULT if kept.value is None else _ASK_AGAIN_AFTER if again else _KEEP_FOR
            if kept.asked_at is None or kept.asked_at + lives <= now:
                kept.asked_at = now
                kept.value = None
                kept.value = await self._json("GET", url)
        if kept.value is None:
            raise _away("it did not answer a moment ago")
        return kept.value

    async def _redeem(self, description: Description, code: str, verifier: str) -> str:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.redirect_uri,
            "code_verifier": verifier,
        }
        secret = self._settings.oidc_client_secret
        authentication: httpx.Auth | None = None
        if secret is None or description.secret_in_body:
            form["client_id"] = self._client_id
        if secret is not None and description.secret_in_body:
            form["client_secret"] = secret.get_secret_value()
        elif secret is not None:
            # RFC 6749, 2.3.1: both parts are encoded as in a form first.
            name, word = (urlencode({"": text})[1:] for text in (self._client_id, secret.get_secret_value()))
            authentication = httpx.BasicAuth(name, word)
        answer = await self._json("POST", description.token_endpoint, form, authentication)
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise BadToken("the provider gave no ID token")
        return token

    async def _json(
        self, method: str, url: str, form: Mapping[str, str] | None = None, authentication: httpx.Auth | None = None
    ) -> Mapping[str, Any]:
        """An object, within one deadline and a bound of bytes; redirects are not followed."""
        try:
            async with (
                asyncio.timeout(TIMEOUT_SECONDS),
                self._http.stream(
                    method, url, data=form, auth=authentication, headers={"accept": "application/json"}
                ) as answer,
            ):
                body = bytearray()
                async for part in answer.aiter_bytes():
                    body += part
                    if len(body) > _MAX_ANSWER_BYTES:
                        raise _away("its answer is too long")
                status = answer.status_code
        except (httpx.HTTPError, TimeoutError) as error:
            raise _away(f"{type(error).__name__} at {url}") from error
        try:
            found = json.loads(body)
        except ValueError:
            found = None
        if form is not None and status in {400, 401}:
            logger.warning("the OpenID provider refused a code: %s", found)
            if isinstance(found, dict) and found.get("error") == "invalid_grant":
                raise BadCode
        if status != 200 or not isinstance(found, dict):
            raise _away(f"it answered {status} at {url}")
        return found


def _away(why: str) -> Unavailable:
    logger.error("the OpenID provider cannot be used: %s", why)
    return Unavailable(
        "The provider that people log in with cannot be reached or used right now. Try again in a moment; "
        "API keys work meanwhile.",
        code="login_provider_unavailable",
    )
