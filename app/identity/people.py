"""People: members of teams with a role in each. They log in elsewhere; here they are an address and their teams."""

import re
from collections.abc import Sequence

from app.audit.service import AuditService
from app.clock import Clock
from app.db.engine import UnitOfWork
from app.db.keyset import Page
from app.db.scope import across_teams
from app.db.tables import Team, TeamMember, User
from app.errors import Conflict, Forbidden, InvalidInput, NotFound
from app.identity.caller import Caller
from app.identity.people_repository import PeopleRepository
from app.identity.policy import Role
from app.identity.projects import ProjectService
from app.identity.repository import IdentityRepository
from app.ids import Prefix, new_id

_EMAIL = re.compile(r"[^@\s\x00-\x1f]{1,64}@[a-z0-9.-]{1,253}")


class PeopleService:
    def __init__(self, work: UnitOfWork, projects: ProjectService, audit: AuditService, clock: Clock) -> None:
        self._session = work.session
        self._repository = PeopleRepository(work.session)
        self._keys = IdentityRepository(work.session)
        self._projects = projects
        self._audit = audit
        self._clock = clock

    # Members of a team.

    def add_member(
        self, caller: Caller, project_id: str, role: Role, *, email: str | None, user_id: str | None
    ) -> tuple[TeamMember, User]:
        """Make a person a member; one who is not known by this address yet is made known. `Conflict` for a member."""
        with self._projects.reach(caller, project_id) as team:
            _check_whole(caller)
            if team.archived_at is not None:
                raise Conflict(f"The project '{project_id}' is archived, and gets no new members.")
            user = self._known(caller, email, user_id)
            if not self._repository.add_member(project_id, user.id, role.value):
                raise Conflict(f"'{user.email}' is a member of this project already.")
            self._audit.record(project_id, caller.actor, "member.create", user.id, role=role.value)
            member = self._repository.find_member(project_id, user.id)
            if member is None:
                raise NotFound("The membership ended in the same moment.", param="user_id")
            return member, user

    def list_members(
        self, caller: Caller, project_id: str, *, after: str | None, limit: int
    ) -> tuple[Page[TeamMember], dict[str, User]]:
        with self._projects.reach(caller, project_id):
            page = self._repository.list_members(project_id, after=after, limit=limit)
            return page, self._repository.by_id({member.user_id for member in page.rows})

    def get_member(self, caller: Caller, project_id: str, user_id: str) -> tuple[TeamMember, User]:
        with self._projects.reach(caller, project_id):
            return self._member(project_id, user_id)

    def set_member_role(
        self, caller: Caller, project_id: str, user_id: str, role: Role | None
    ) -> tuple[TeamMember, User]:
        """Another role; the person's keys of this team have it from their next request on."""
        with self._projects.reach(caller, project_id):
            _check_whole(caller)
            member, user = self._member(project_id, user_id)
            if role is not None and member.role != role:
                self._audit.record(
                    project_id, caller.actor, "member.update", user_id, role=role.value, before=member.role
                )
                member.role = role.value
                self._repository.flush()
                self._keys.set_roles(role.value, team_id=project_id, user_id=user_id)
            return member, user

    def remove_member(self, caller: Caller, project_id: str, user_id: str) -> None:
        """The membership and the person's keys of this team end at once."""
        with self._projects.reach(caller, project_id):
            member, _ = self._member(project_id, user_id)
            self._repository.remove_member(member)
            keys = self._keys.revoke_all(self._clock.now(), team_id=project_id, user_id=user_id)
            self._audit.record(project_id, caller.actor, "member.delete", user_id, revoked_keys=list(keys))

    # People of the installation, for operators.

    def page(self, *, emails: Sequence[str], after: str | None, limit: int) -> Page[User]:
        with across_teams(self._session):
            return self._repository.page(emails=[email.lower() for email in emails], after=after, limit=limit)

    def get(self, user_id: str) -> tuple[User, Sequence[tuple[Team, str]]]:
        """A person, and the teams with the role in each."""
        with across_teams(self._session):
            user = self._find(user_id)
            return user, self._repository.teams_of(user_id)

    def set_operator(self, caller: Caller, user_id: str, is_operator: bool | None) -> User:  # noqa: FBT001 - the field
        """Whether the person runs the installation, from the next log-in on; keys of a former operator end at once."""
        with across_teams(self._session):
            user = self._find(user_id)
            if is_operator is not None and user.is_operator != is_operator:
                user.is_operator = is_operator
                self._repository.flush()
                if not is_operator:
                    self._keys.revoke_all(self._clock.now(), user_id=user_id)
                self._audit.record(None, caller.actor, "user.update", user_id, is_operator=is_operator)
            return user

    def delete(self, caller: Caller, user_id: str) -> None:
        """All memberships and keys end at once; the address stays known to the audit log's readers by its id only."""
        with across_teams(self._session):
            user = self._find(user_id)
            now = self._clock.now()
            teams = self._repository.teams_of(user_id)
            self._repository.mark_deleted(user, now)
            keys = self._keys.revoke_all(now, user_id=user_id)
            self._audit.record(
                None,
                caller.actor,
                "user.delete",
                user_id,
                teams=[team.id for team, _ in teams],
                revoked_keys=list(keys),
            )

    def _known(self, caller: Caller, email: str | None, user_id: str | None) -> User:
        """People are the installation's, so they are looked up and made across teams."""
        with across_teams(self._session):
            if user_id is not None:
                # Only an operator can know people of other teams by their ids.
                user = self._repository.find(user_id) if caller.is_operator else None
                if user is None:
                    raise NotFound(f"No user with id '{user_id}' found.", param="user_id")
                return user
            address = (email or "").strip().lower()
            if _EMAIL.fullmatch(address) is None:
                raise InvalidInput("Name the person by 'email', an address like name@example.com.", param="email")
            user = self._repository.add_if_new(new_id(Prefix.USER), address, address.partition("@")[0])
            if user.deleted_at is not None:
                user.deleted_at = None
                user.is_operator = False
                self._repository.flush()
            return user

    def _member(self, project_id: str, user_id: str) -> tuple[TeamMember, User]:
        member = self._repository.find_member(project_id, user_id)
        user = self._repository.by_id({user_id}).get(user_id) if member else None
        if member is None or user is None:
            raise NotFound(f"No user with id '{user_id}' found in this project.", param="user_id")
        return member, user

    def _find(self, user_id: str) -> User:
        user = self._repository.find(user_id)
        if user is None:
            raise NotFound(f"No user with id '{user_id}' found.", param="user_id")
        return user


def _check_whole(caller: Caller) -> None:
    """A narrowed key could give a person more rights than it has itself."""
    if caller.permissions is not None:
        raise Forbidden(
            "A key that is narrowed to some rights cannot give roles to people. Use one that is not.",
            code="insufficient_permissions",
        )
