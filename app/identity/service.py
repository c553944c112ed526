"""Teams and API keys: who somebody is, and how a key is born, checked and taken back."""

import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from app.audit.service import AuditService
from app.clock import Clock
from app.db.engine import UnitOfWork
from app.db.keyset import Page
from app.db.look import Look
from app.db.scope import enter_team
from app.db.tables import ApiKey, Team
from app.errors import Conflict, Forbidden, InvalidInput, NotFound, Unauthorized
from app.identity.caller import Caller
from app.identity.keys import NewKey, hint, is_mistyped, key_hash, make_key
from app.identity.policy import Permission, Role, is_allowed
from app.identity.repository import FoundKey, IdentityRepository, found_key
from app.ids import Prefix, new_id

DEFAULT_TEAM_SLUG = "default"
_SLUG = re.compile(r"[a-z0-9][a-z0-9-]{0,38}")
_TOUCH_AFTER = timedelta(minutes=1)
_KEEP_SESSIONS = timedelta(days=30)


@dataclass(frozen=True)
class KeyOwner:
    """Whose a key is, beside its team's: a service account's, a person's, or nobody's."""

    service_account_id: str | None = None
    user_id: str | None = None


_NOBODY = KeyOwner()


class IdentityService:
    def __init__(self, work: UnitOfWork, audit: AuditService, clock: Clock) -> None:
        self._work = work
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
        self,
        team_id: str,
        name: str,
        role: Role,
        *,
        actor: str = "system",
        expires_after: timedelta | None = None,
        permissions: Iterable[Permission] | None = None,
        owner: KeyOwner = _NOBODY,
    ) -> tuple[ApiKey, str]:
        """A new key, as its row and its text; the text is not stored and cannot be shown again.

        `permissions` narrow it: `InvalidInput` for one that its role does not have.
        """
        return self._add_key(
            team_id,
            name,
            role,
            make_key(),
            actor=actor,
            expires_after=expires_after,
            permissions=permissions,
            owner=owner,
        )

    def create_key_of_caller(
        self,
        caller: Caller,
        team_id: str,
        name: str,
        role: Role,
        *,
        expires_after: timedelta | None,
        permissions: list[Permission] | None,
        owner: KeyOwner = _NOBODY,
    ) -> tuple[ApiKey, str]:
        """As `create_key`; `Forbidden` for a key that may do more than the key that asks for it."""
        wanted = [right for right in Permission if is_allowed(role, right)] if permissions is None else permissions
        beyond = [right for right in wanted if is_allowed(role, right) and not caller.may(right)]
        if beyond:
            raise Forbidden(
                f"A key cannot make a key with more rights than its own: yours does not include '{beyond[0]}'. "
                "Leave it out of 'permissions', or use a stronger key.",
                code="insufficient_permissions",
                param="permissions",
            )
        return self.create_key(
            team_id,
            name,
            role,
            actor=caller.actor,
            expires_after=expires_after,
            permissions=permissions,
            owner=owner,
        )

    def create_key_with_known_text_for_tests(self, team_id: str, name: str, role: Role, text: str) -> ApiKey:
        """A key whose text the caller chooses. Only test seeders call this; no route and no command does."""
        new = NewKey(new_id(Prefix.KEY), text)
        return self._add_key(team_id, name, role, new, actor="system")[0]

    def first_key(self) -> str:
        """The text of a new operator key of the team `default`, which is made if it is not there yet."""
        self._repository.lock_first_key()
        team = self._repository.find_team(DEFAULT_TEAM_SLUG) or self.create_team("Default", DEFAULT_TEAM_SLUG)
        _, text = self.create_key(team.id, "made by tunesmith up", Role.OPERATOR)
        return text

    def authenticate(self, text: str) -> Caller:
        """Who holds this key; `Unauthorized` for unknown, mistyped, expired and revoked ones alike.

        The database is asked each time, so that a key which is taken back stops with the next request. The unit of
        work acts for the key's team from here on.
        """
        return self.recognise(text, None if is_mistyped(text) else self._repository.find_key(key_hash(text)))

    async def authenticate_by_look(self, text: str, look: Look[Any]) -> Caller:
        """As `authenticate`, in the round trip of a look and without a thread; `MissedError` if it cannot be taken."""
        return self.recognise(text, None if is_mistyped(text) else found_key(await look.find_key(key_hash(text))))

    def recognise(self, text: str, key: FoundKey | None) -> Caller:
        """Who holds this key, which was found by its hash now."""
        if key is None or not hmac.compare_digest(key.sha256, key_hash(text)):
            raise Unauthorized(
                f"Incorrect API key provided: {hint(text)}. Check the key, or ask an admin of your team for a new one.",
                code="invalid_api_key",
            )
        now = self._clock.now()
        if key.revoked_at is not None:
            raise _refused(key, "was revoked")
        if key.expires_at is not None and key.expires_at <= now:
            raise _refused(key, "has expired")
        if key.archived_at is not None:
            raise _refused(key, "belongs to a team that was archived")
        enter_team(self._work.session, key.team_id)
        if key.last_used_at is None or key.last_used_at < now - _TOUCH_AFTER:
            key_id = key.id
            # At the end: until then nobody who revokes the key has to wait for this request.
            self._work.before_commit(lambda: self._repository.touch_key(key_id))
        return Caller(
            team_id=key.team_id,
            team_slug=key.slug,
            key_id=key.id,
            role=Role(key.role),
            permissions=None if key.permissions is None else frozenset(map(Permission, key.permissions)),
            user_id=key.user_id,
        )

    def open_session(
        self, team_id: str, user_id: str, role: Role, name: str, *, lives: timedelta, via: str
    ) -> tuple[ApiKey, str]:
        """A session, which is a key of a person that lives for hours; its row and its text, which is not stored.

        `via` tells the audit log where the person logged in. The caller has checked that the person may.
        """
        row, text = self._store_key(team_id, name, role, make_key(), expires_after=lives, owner=KeyOwner(None, user_id))
        self._audit.record(team_id, f"user:{user_id}", "person.login", row.id, role=role.value, via=via)
        return row, text

    def get_session(self, caller: Caller) -> ApiKey:
        """The log-in that the caller acts with; `NotFound` for a key that is no session."""
        key = self._repository.find_key_of_team(caller.team_id, caller.key_id)
        if key is None or key.user_id is None:
            raise NotFound("You act with an API key, which is no log-in of a person. Use `/v1/teams/keys` for keys.")
        return key

    def end_session(self, caller: Caller) -> None:
        """Log out: the session stops with the next request."""
        key = self.get_session(caller)
        self._repository.revoke(key, self._clock.now())
        self._audit.record(key.team_id, caller.actor, "person.logout", key.id)

    def forget_sessions(self) -> int:
        """Remove sessions that ended long ago; called by the control role. Returns how many."""
        return self._repository.forget_sessions(self._clock.now() - _KEEP_SESSIONS)

    def list_keys(self, caller: Caller, *, after: str | None, limit: int) -> Page[ApiKey]:
        """The keys of the caller's team, revoked ones included, newest first."""
        return self._repository.list_keys(team_id=caller.team_id, after=after, limit=limit)

    def revoke_key(self, caller: Caller, key_id: str, *, team_id: str | None = None) -> ApiKey:
        """Take a key back, at once and for good; revoking again changes nothing. `team_id`: the caller's if None."""
        key = self._repository.find_key_of_team(team_id or caller.team_id, key_id)
        if key is None:
            raise NotFound(f"No API key with id '{key_id}' found in your team.", param="key_id")
        if key.role == Role.OPERATOR and not caller.is_operator:
            raise Forbidden("This key is an operator's: only an operator can revoke it.", param="key_id")
        if key.revoked_at is None:
            self._repository.revoke(key, self._clock.now())
            self._audit.record(key.team_id, caller.actor, "key.revoke", key.id, name=key.name)
        return key

    def _add_key(
        self,
        team_id: str,
        name: str,
        role: Role,
        new: NewKey,
        *,
        actor: str,
        expires_after: timedelta | None = None,
        permissions: Iterable[Permission] | None = None,
        owner: KeyOwner = _NOBODY,
    ) -> tuple[ApiKey, str]:
        key, text = self._store_key(
            team_id, name, role, new, expires_after=expires_after, permissions=permissions, owner=owner
        )
        narrowed = {} if key.permissions is None else {"permissions": key.permissions}
        self._audit.record(team_id, actor, "key.create", key.id, name=name, role=role.value, **narrowed)
        return key, text

    def _store_key(
        self,
        team_id: str,
        name: str,
        role: Role,
        new: NewKey,
        *,
        expires_after: timedelta | None = None,
        permissions: Iterable[Permission] | None = None,
        owner: KeyOwner = _NOBODY,
    ) -> tuple[ApiKey, str]:
        expires_at: datetime | None = None if expires_after is None else self._clock.now() + expires_after
        rights = _narrowed(role, permissions)
        team = self._repository.share_lock_team(team_id)
        if team is None or team.archived_at is not None:
            raise NotFound(f"No team with id '{team_id}' that is in use.", param="project_id")
        key = ApiKey(
            id=new.id,
            team_id=team_id,
            name=name,
            role=role.value,
            permissions=rights,
            service_account_id=owner.service_account_id,
            user_id=owner.user_id,
            sha256=key_hash(new.text),
            hint=hint(new.text),
            expires_at=expires_at,
        )
        self._repository.add_key(key)
        return key, new.text


def _narrowed(role: Role, permissions: Iterable[Permission] | None) -> list[str] | None:
    """As stored, in the order of the table; `InvalidInput` for a right that the role does not have."""
    if permissions is None:
        return None
    wanted = set(permissions)
    for right in sorted(wanted):
        if not is_allowed(role, right):
            raise InvalidInput(
                f"The role '{role}' does not include '{right}'. Leave it out, or choose a stronger role.",
                param="permissions",
            )
    return [right.value for right in Permission if right in wanted]


def _refused(key: FoundKey, why: str) -> Unauthorized:
    told = (
        f"This API key {why}. Ask an admin of your team for a new one."
        if key.user_id is None
        else f"Your log-in {why}. Log in again at /v1/auth/login, or with `tunesmith login`."
    )
    return Unauthorized(told, code="invalid_api_key")
