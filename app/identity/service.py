"""Teams and API keys: who somebody is, and how a key is born, checked and taken back."""

import hmac
import re
from datetime import datetime, timedelta

from app.audit.service import AuditService
from app.clock import Clock
from app.db.engine import UnitOfWork
from app.db.keyset import Page
from app.db.tables import ApiKey, Team
from app.errors import Conflict, InvalidInput, NotFound, Unauthorized
from app.identity.caller import Caller
from app.identity.keys import NewKey, hint, is_mistyped, key_hash, make_key
from app.identity.policy import Role
from app.identity.repository import IdentityRepository
from app.ids import Prefix, new_id

DEFAULT_TEAM_SLUG = "default"
_SLUG = re.compile(r"[a-z0-9][a-z0-9-]{0,38}")


class IdentityService:
    def __init__(self, work: UnitOfWork, audit: AuditService, clock: Clock) -> None:
        self._repository = IdentityRepository(work.session)
        self._audit = audit
        self._clock = clock

    def create_team(self, name: str, slug: str, *, actor: str = "system") -> Team:
        """A new team. The slug becomes part of model names; `Conflict` if it is taken."""
        if _SLUG.fullmatch(slug) is None:
            raise InvalidInput(
                f"The slug '{slug}' is not usable: take 1 to 39 of a-z, 0-9 and '-', not starting with '-'.",
                param="slug",
            )
        if self._repository.find_team(slug) is not None:
            raise Conflict(f"The slug '{slug}' belongs to another team. Choose another one.", param="slug")
        team = Team(id=new_id(Prefix.TEAM), name=name, slug=slug)
        self._repository.add_team(team)
        self._audit.record(team.id, actor, "team.create", team.id, name=name, slug=slug)
        return team

    def create_key(
        self, team_id: str, name: str, role: Role, *, actor: str = "system", expires_after: timedelta | None = None
    ) -> tuple[ApiKey, str]:
        """A new key, as its row and its text; the text is not stored and cannot be shown again."""
        return self._add_key(team_id, name, role, make_key(), actor=actor, expires_after=expires_after)

    def create_key_with_known_text_for_tests(self, team_id: str, name: str, role: Role, text: str) -> ApiKey:
        """A key whose text the caller chooses. Only test seeders call this; no route and no command does."""
        new = NewKey(new_id(Prefix.KEY), text)
        return self._add_key(team_id, name, role, new, actor="system", expires_after=None)[0]

    def first_key(self) -> str:
        """The text of a new operator key of the team `default`, which is made if it is not there yet."""
        self._repository.lock_first_key()
        team = self._repository.find_team(DEFAULT_TEAM_SLUG) or self.create_team("Default", DEFAULT_TEAM_SLUG)
        _, text = self.create_key(team.id, "made by tunesmith up", Role.OPERATOR)
        return text

    def authenticate(self, text: str) -> Caller:
        """Who holds this key; `Unauthorized` for unknown, mistyped, expired and revoked ones alike."""
        found = None if is_mistyped(text) else self._repository.find_key(key_hash(text))
        if found is None or not hmac.compare_digest(found[0].sha256, key_hash(text)):
            raise Unauthorized(
                f"Incorrect API key provided: {hint(text)}. Check the key, or ask an admin of your team for a new one.",
                code="invalid_api_key",
            )
        key, team = found
        if key.revoked_at is not None:
            raise _refused("was revoked")
        if key.expires_at is not None and key.expires_at <= self._clock.now():
            raise _refused("has expired")
        return Caller(team_id=team.id, team_slug=team.slug, key_id=key.id, role=Role(key.role))

    def list_keys(self, caller: Caller, *, after: str | None, limit: int) -> Page[ApiKey]:
        """The keys of the caller's team, revoked ones included, newest first."""
        return self._repository.list_keys(caller.team_id, after=after, limit=limit)

    def revoke_key(self, caller: Caller, key_id: str) -> ApiKey:
        """Take a key back, at once and for good; revoking again changes nothing."""
        key = self._repository.find_key_of_team(caller.team_id, key_id)
        if key is None:
            raise NotFound(f"No API key with id '{key_id}' found in your team.", param="key_id")
        if key.revoked_at is None:
            self._repository.revoke(key, self._clock.now())
            self._audit.record(caller.team_id, caller.actor, "key.revoke", key.id, name=key.name)
        return key

    def _add_key(
        self, team_id: str, name: str, role: Role, new: NewKey, *, actor: str, expires_after: timedelta | None
    ) -> tuple[ApiKey, str]:
        expires_at: datetime | None = None if expires_after is None else self._clock.now() + expires_after
        key = ApiKey(
            id=new.id,
            team_id=team_id,
            name=name,
            role=role.value,
            sha256=key_hash(new.text),
            hint=hint(new.text),
            expires_at=expires_at,
        )
        self._repository.add_key(key)
        self._audit.record(team_id, actor, "key.create", key.id, name=name, role=role.value)
        return key, new.text


def _refused(why: str) -> Unauthorized:
    return Unauthorized(f"This API key {why}. Ask an admin of your team for a new one.", code="invalid_api_key")
