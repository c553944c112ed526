"""The verbs of logging in: begin, come back from the provider, and for the command line redeem a code."""

import hashlib
import hmac
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from app.audit.service import AuditService
from app.context import Context
from app.db.engine import UnitOfWork
from app.db.scope import across_teams
from app.db.tables import ApiKey, User
from app.errors import Forbidden, InvalidInput
from app.identity.admission import AdmissionService, NotAdmitted, Place, Visitor
from app.identity.caller import Caller
from app.identity.policy import Role
from app.identity.service import IdentityService
from app.login.groups import parse_table, roles_of
from app.login.id_token import BadToken, Claims
from app.login.repository import LoginRepository

ANSWER_LIVES = timedelta(minutes=10)
_CODE_LIVES = timedelta(minutes=1)
_ANSWER, _CODE = "answer", "code"


@dataclass(frozen=True)
class Program:
    """A command line that waits on a port of the person's own machine (RFC 8252)."""

    port: int
    challenge: str
    """Base64 of the SHA-256 of a secret that this program alone has."""


@dataclass(frozen=True)
class Begun:
    """The secrets of a log-in under way: for the provider, and for the browser's cookie."""

    state: str
    nonce: str
    verifier: str
    browser: str


@dataclass(frozen=True)
class Waiting:
    """A log-in whose browser came back."""

    nonce: str
    verifier: str
    team: str | None
    program: Program | None


@dataclass(frozen=True)
class Arrival:
    """Somebody who may come in. `secret` is the session's text, or for a program the code that it redeems."""

    user: User
    place: Place
    secret: str
    program: Program | None


class LoginService:
    def __init__(
        self,
        work: UnitOfWork,
        context: Context,
        identity: IdentityService,
        admission: AdmissionService,
        audit: AuditService,
    ) -> None:
        self._session = work.session
        self._repository = LoginRepository(work.session)
        self._settings = context.settings
        self._identity = identity
        self._admission = admission
        self._audit = audit

    def begin(self, *, team: str | None, program: Program | None) -> Begun:
        """Remember a log-in for ten minutes, bound to one browser."""
        begun = Begun(*(secrets.token_urlsafe(32) for _ in range(4)))
        data = {
            "nonce": begun.nonce,
            "verifier": begun.verifier,
            "browser": _digest(begun.browser).hex(),
            "team": team,
            "program": None if program is None else program.__dict__,
        }
        self._repository.add(_digest(begun.state), _ANSWER, data, lives=ANSWER_LIVES)
        return begun

    def come_back(self, state: str, browser: str | None) -> Waiting:
        """The log-in of this state, once. `InvalidInput` for another browser, a second time, or too late."""
        data = self._repository.take(_digest(state), _ANSWER)
        if data is None or browser is None or not hmac.compare_digest(data["browser"], _digest(browser).hex()):
            raise InvalidInput(
                "This log-in was not begun in this browser, is more than ten minutes old, or was used before. "
                "Begin again at /v1/auth/login, or with `tunesmith login`.",
                code="login_not_known",
            )
        program = None if data["program"] is None else Program(**data["program"])
        return Waiting(data["nonce"], data["verifier"], data["team"], program)

    def arrive(self, waiting: Waiting, claims: Claims) -> Arrival | NotAdmitted:
        """Let the person of these claims in, or say why not; the audit log tells of either, so neither is raised."""
        subject = f"{claims['iss']} {claims['sub']}"
        try:
            user, places = self._admission.admit(self._visitor(subject, claims), self._roles(claims))
            place = _chosen(places, waiting.team)
        except NotAdmitted as refusal:
            self.refuse(subject, refusal.code or "not_admitted")
            return refusal
        with across_teams(self._session):
            if waiting.program is None:
                secret = self._open(user, place, via="browser")[1]
            else:
                secret = secrets.token_urlsafe(32)
                data = {
                    "user_id": user.id,
                    "team_id": place.team_id,
                    "is_operator": place.role is Role.OPERATOR,
                    "challenge": waiting.program.challenge,
                }
                self._repository.add(_digest(secret), _CODE, data, lives=_CODE_LIVES)
        return Arrival(user, place, secret, waiting.program)

    def redeem(self, code: str, verifier: str) -> tuple[ApiKey, str]:
        """A session for the program that began the log-in, once: row and text. `InvalidInput` for all others."""
        data = self._repository.take(_digest(code), _CODE)
        challenge = urlsafe_b64encode(_digest(verifier)).rstrip(b"=").decode()
        known = None
        if data is not None and hmac.compare_digest(data["challenge"], challenge):
            known = self._admission.places(data["user_id"])
        place = None
        if data is not None and known is not None:
            place = next((place for place in known[1] if place.team_id == data["team_id"]), None)
        if data is None or known is None or place is None:
            raise InvalidInput(
                "This code is more than a minute old, was used before, or belongs to another program. "
                "Run `tunesmith login` again.",
                code="login_not_known",
            )
        if data["is_operator"]:
            place = Place(place.team_id, place.slug, place.name, Role.OPERATOR)
        with across_teams(self._session):
            return self._open(known[0], place, via="command line")

    def refuse(self, subject: str, why: str) -> None:
        """Note in the installation's chain that somebody was not let in."""
        self._audit.record(None, "system", "person.refuse", subject[:512], reason=why)

    def session(self, caller: Caller) -> tuple[ApiKey, User, Sequence[Place]]:
        """The caller's log-in, who it is, and the teams that the person may act in."""
        row = self._identity.get_session(caller)
        known = self._admission.places(row.user_id or "")
        if known is None:
            raise Forbidden("You were removed from this installation.", code="not_invited")
        return row, *known

    def forget_old(self) -> int:
        """What the control role removes: steps that nobody took, sessions that ended long ago."""
        return self._repository.forget_old() + self._identity.forget_sessions()

    def _open(self, user: User, place: Place, *, via: str) -> tuple[ApiKey, str]:
        lives = timedelta(hours=self._settings.session_hours)
        return self._identity.open_session(
            place.team_id, user.id, place.role, f"log-in of {user.email}", lives=lives, via=via
        )

    def _visitor(self, subject: str, claims: Claims) -> Visitor:
        email = claims.get("email")
        # Entra ID writes booleans of optional claims as text and numbers.
        is_verified = claims.get(self._settings.oidc_verified_claim) in (True, "true", "1")
        known = email.strip().lower() if isinstance(email, str) and is_verified and _is_address(email) else None
        name = claims.get("name") or (known or "").partition("@")[0]
        return Visitor(subject, known, str(name)[:200])

    def _roles(self, claims: Claims) -> Mapping[str, Role] | None:
        table = parse_table(self._settings.oidc_roles)
        if not table:
            return None
        claim = self._settings.oidc_groups_claim
        if claim not in claims and claim in _elsewhere(claims):
            raise NotAdmitted(
                "You are in more groups than your provider puts into a token. "
                "Ask an operator to let it send only the groups that are assigned to this service.",
                code="too_many_groups",
            )
        groups = claims.get(claim, [])
        names = groups if isinstance(groups, list) else [groups]
        return roles_of([name for name in names if isinstance(name, str)], table)


def reason_of(error: BadToken) -> str:
    """For the audit log: short, and of our own words only."""
    return f"the ID token proves nothing: {error}"[:200]


def _chosen(places: Sequence[Place], team: str | None) -> Place:
    """The team that was asked for by slug or id, else the first by slug."""
    for place in places:
        if team is None or team in (place.slug, place.team_id):
            return place
    raise NotAdmitted(
        f"You are no member of a team '{team}'. Yours: {', '.join(place.slug for place in places)}.", code="no_team"
    )


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _is_address(email: str) -> bool:
    return 3 <= len(email.strip()) <= 320 and email.count("@") == 1 and email.isprintable()


def _elsewhere(claims: Claims) -> Mapping[str, Any]:
    """Claims that are too large for a token, by name (OpenID Connect Core 5.6.2)."""
    named = claims.get("_claim_names")
    return named if isinstance(named, dict) else {}
