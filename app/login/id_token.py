"""ID tokens: which signatures count, and what a token must say. Pure; the caller brings keys and time.

After OpenID Connect Core 1.0, 3.1.3.7, and RFC 8725 (JWT best practices): the algorithm is taken from our list and not
from the token's word alone, and a key signs only with algorithms of its own kind.
"""

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from joserfc import jwk, jws, jwt
from joserfc.errors import JoseError

# Public keys only: with HS… whoever knows the public key could sign, with `none` everybody.
_KEY_TYPES = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), "RSA"),
    **dict.fromkeys(("ES256", "ES384", "ES512"), "EC"),
}
LEEWAY_SECONDS = 60
MAX_TOKEN_BYTES = 64 * 1024
_MIN_RSA_BITS = 2048

Claims = Mapping[str, Any]


class BadToken(Exception):  # noqa: N818 - named after what it is
    """A token that proves nothing; the message says why, for the log."""


class UnknownKey(BadToken):
    """It names a key that the provider had not published when we last asked."""


@dataclass(frozen=True)
class Expected:
    """What a token must be about to be for us, and for this log-in."""

    issuer: str
    client_id: str
    nonce: str


def verified_claims(token: str, keys: Sequence[Mapping[str, Any]], expected: Expected, *, now: float) -> Claims:
    """The claims of a token that is signed by one of `keys` (a JWK set's) and meant for us; `BadToken` otherwise.

    `now` is in seconds since the epoch; clocks may differ by `LEEWAY_SECONDS`.
    """
    algorithm, key = _key_for(token, keys)
    try:
        claims = jwt.decode(token, key, algorithms=[algorithm]).claims
    except (JoseError, ValueError) as error:
        raise BadToken(f"its signature does not hold ({error})") from error
    _check(claims, expected, now)
    return claims


def _key_for(token: str, keys: Sequence[Mapping[str, Any]]) -> tuple[str, jwk.Key]:
    if len(token) > MAX_TOKEN_BYTES or token.count(".") != 2:
        raise BadToken("it is no signed token")
    try:
        header = jws.extract_compact(token.encode("ascii")).headers()
    except (JoseError, ValueError) as error:
        raise BadToken("it is no signed token") from error
    algorithm, key_id = header.get("alg"), header.get("kid")
    kind = _KEY_TYPES.get(algorithm) if isinstance(algorithm, str) else None
    if kind is None:
        raise BadToken(f"it is signed with '{algorithm}', which proves nothing here")
    fitting = [
        key
        for key in keys
        if key.get("kty") == kind
        and key.get("use", "sig") == "sig"
        and key.get("alg", algorithm) == algorithm
        and (key_id is None or key.get("kid") == key_id)
    ]
    if not fitting:
        raise UnknownKey(f"its key '{key_id}' is not among the provider's")
    if len(fitting) > 1:
        raise BadToken("it does not say which of several keys signed it")
    try:
        key = jwk.import_key(dict(fitting[0]))
    except (JoseError, ValueError) as error:
        raise BadToken("the provider's key cannot be read") from error
    if isinstance(key, jwk.RSAKey) and key.public_key.key_size < _MIN_RSA_BITS:
        raise BadToken("the provider's key is too short")
    return str(algorithm), key


def _check(claims: Claims, expected: Expected, now: float) -> None:
    if claims.get("iss") != expected.issuer:
        raise BadToken("another issuer made it")
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    if expected.client_id not in audiences:
        raise BadToken("it is meant for another client")
    authorised = claims.get("azp", expected.client_id if len(audiences) == 1 else None)
    if authorised != expected.client_id:
        raise BadToken("it was given to another client")
    expires, issued = _moment(claims, "exp"), _moment(claims, "iat")
    if expires is None or expires <= now - LEEWAY_SECONDS:
        raise BadToken("it has expired")
    if issued is None or issued > now + LEEWAY_SECONDS:
        raise BadToken("it was made in the future")
    if "nbf" in claims and (_moment(claims, "nbf") or float("inf")) > now + LEEWAY_SECONDS:
        raise BadToken("it is not valid yet")
    nonce = claims.get("nonce")
    if not isinstance(nonce, str) or not hmac.compare_digest(nonce.encode(), expected.nonce.encode()):
        raise BadToken("it belongs to another log-in")
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 0 < len(subject) <= 255 or not subject.isprintable():
        raise BadToken("it names nobody")


def _moment(claims: Claims, name: str) -> float | None:
    value = claims.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
