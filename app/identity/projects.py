"""Teams as projects of the administration wire: made and archived by operators, looked after by their admins."""

import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from app.audit.service import AuditService
from app.clock import Clock
from app.db.engine import UnitOfWork
from app.db.keyset import Page
from app.db.scope import across_teams
from app.db.tables import ApiKey, ServiceAccount, Team
from app.errors import Conflict, NotFound
from app.identity.caller import Caller
from app.identity.policy import Role
from app.identity.repository import IdentityRepository
from app.identity.service import IdentityService
from app.ids import random_text

_SLUG_LENGTH = 30


class ProjectService:
    """Every verb names the project; absent ones and those that the caller has no say in are the same `NotFound`."""

    def __init__(self, work: UnitOfWork, identity: IdentityService, audit: AuditService, clock: Clock) -> None:
        self._session = work.session
        self._repository = IdentityRepository(work.session)
        self._identity = identity
        self._audit = audit
        self._clock = clock

    @contextmanager
    def reach(self, caller: Caller, project_id: str) -> Iterator[Team]:
        """The project, whose rows can be reached inside the block: the caller's own, or any for an operator."""
        is_own = project_id == caller.team_id
        with nullcontext() if is_own or not caller.is_operator else across_teams(self._session):
            team = self._repository.find_team_by_id(project_id) if is_own or caller.is_operator else None
            if team is None:
                raise NotFound(f"No project with id '{project_id}' found.", param="project_id")
            yield team

    def page(self, caller: Caller, *, with_archived: bool, after: str | None, limit: int) -> Page[Team]:
        """All projects for an operator, newest first; for others the own one."""
        only = None if caller.is_operator else caller.team_id
        with across_teams(self._session) if caller.is_operator else nullcontext():
            return self._repository.list_teams(only=only, with_archived=with_archived, after=after, limit=limit)

    def get(self, caller: Caller, project_id: str) -> Team:
        with self.reach(caller, project_id) as team:
            return team

    def create(self, caller: Caller, name: str, slug: str | None) -> Team:
        """A new project; without a slug one is made from the name. `Conflict` for a slug that is taken."""
        with across_teams(self._session):
            return self._identity.create_team(name, slug or self._free_slug(name), actor=caller.actor)

    def rename(self, caller: Caller, project_id: str, name: str | None) -> Team:
        """Give it another name; the slug stays, because models are named after it."""
        with self.reach(caller, project_id) as team:
            _check_in_use(team)
            if name is not None and name != team.name:
                self._audit.record(team.id, caller.actor, "team.update", team.id, name=name, before=team.name)
                team.name = name
                self._repository.flush()
            return team

    def archive(self, caller: Caller, project_id: str) -> Team:
        """End a project: all its keys stop at once. What it made stays; archiving again changes nothing."""
        with self.reach(caller, project_id):
            team = self._repository.lock_team(project_id)
            if team is None:
                raise NotFound(f"No project with id '{project_id}' found.", param="project_id")
            if team.id == caller.team_id:
                raise Conflict("Your own project cannot be archived: the key in your hand would stop with it.")
            if team.archived_at is None:
                now = self._clock.now()
                team.archived_at = now
                self._repository.flush()
                keys = self._repository.revoke_all(now, team_id=team.id)
                self._audit.record(team.id, caller.actor, "team.archive", team.id, revoked_keys=list(keys))
            return team

    # Keys.

    def list_keys(
        self, caller: Caller, project_id: str, *, after: str | None, limit: int
    ) -> tuple[Page[ApiKey], dict[str, ServiceAccount]]:
        """Keys that are not revoked, newest first, and the service accounts among their owners."""
        with self.reach(caller, project_id):
            page = self._repository.list_keys(team_id=project_id, only_live=True, after=after, limit=limit)
            return page, self._owners(page.rows)

    def get_key(self, caller: Caller, project_id: str, key_id: str) -> tuple[ApiKey, dict[str, ServiceAccount]]:
        with self.reach(caller, project_id):
            key = self._repository.find_key_of_team(project_id, key_id)
            if key is None or key.revoked_at is not None:
                raise NotFound(f"No API key with id '{key_id}' found in this project.", param="key_id")
            return key, self._owners([key])

    def revoke_key(self, caller: Caller, project_id: str, key_id: str) -> None:
        with self.reach(caller, project_id):
            self._identity.revoke_key(caller, key_id, team_id=project_id)

    # Keys of operators, which the wire calls admin keys.

    def list_operator_keys(self, *, after: str | None, limit: int, ascending: bool) -> Page[ApiKey]:
        with across_teams(self._session):
            return self._repository.list_keys(
                role=Role.OPERATOR, only_live=True, after=after, limit=limit, ascending=ascending
            )

    def get_operator_key(self, key_id: str) -> ApiKey:
        with across_teams(self._session):
            key = self._repository.find_key_of_team(None, key_id)
        if key is None or key.role != Role.OPERATOR or key.revoked_at is not None:
            raise NotFound(f"No admin API key with id '{key_id}' found.", param="key_id")
        return key

    def revoke_operator_key(self, caller: Caller, key_id: str) -> None:
        key = self.get_operator_key(key_id)
        with across_teams(self._session):
            self._identity.revoke_key(caller, key.id, team_id=key.team_id)

    def _owners(self, keys: list[ApiKey]) -> dict[str, ServiceAccount]:
        return self._repository.accounts_by_id({key.service_account_id for key in keys if key.service_account_id})

    def _free_slug(self, name: str) -> str:
        slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:_SLUG_LENGTH].rstrip("-") or "team"
        if self._repository.find_team(slug) is None:
            return slug
        return f"{slug}-{random_text(6).lower()}"


def _check_in_use(team: Team) -> None:
    if team.archived_at is not None:
        raise Conflict(f"The project '{team.id}' is archived, and can no longer be changed.")
