"""Who may come in: a person whom a provider vouches for, known by an invitation or by the groups of the provider.

A person is known by the provider's subject once it was seen, and by a verified email address before that (OpenID
Connect Core 5.7: only issuer and subject together name somebody; addresses change hands).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.audit.service import AuditService
from app.clock import Clock
from app.db.engine import UnitOfWork
from app.db.scope import across_teams
from app.db.tables import User
from app.errors import Forbidden
from app.identity.people_repository import PeopleRepository
from app.identity.policy import Role
from app.identity.repository import IdentityRepository
from app.ids import Prefix, new_id


@dataclass(frozen=True)
class Visitor:
    """Whom the provider vouches for."""

    subject: str
    """Issuer and subject, as one text."""
    email: str | None
    """In lower case; None if the provider names none that it has verified."""
    name: str


@dataclass(frozen=True)
class Place:
    """A team in which a person may act, and as what."""

    team_id: str
    slug: str
    name: str
    role: Role


class NotAdmitted(Forbidden):
    """The provider knows the person and this installation does not let the person in; `code` says why."""


class AdmissionService:
    def __init__(self, work: UnitOfWork, audit: AuditService, clock: Clock) -> None:
        self._session = work.session
        self._repository = PeopleRepository(work.session)
        self._keys = IdentityRepository(work.session)
        self._audit = audit
        self._clock = clock

    def admit(self, visitor: Visitor, roles: Mapping[str, Role] | None) -> tuple[User, Sequence[Place]]:
        """The person and the teams to act in, by slug; `NotAdmitted` if there are none.

        `roles` are what the provider's groups give, by the slugs of teams; None where no group gives anything to
        anybody. Memberships that came from groups follow them, those by invitation stay as they are. The person is
        locked until the end of the transaction: who removes a person waits, and ends this session too.
        """
        with across_teams(self._session):
            user = self._recognise(visitor, is_welcome=bool(roles))
            if roles is not None:
                self._follow_groups(user, roles)
            places = self._places(user, roles or {})
            if not places:
                raise NotAdmitted(
                    f"You are known here as {user.email}, and are a member of no team. "
                    "Ask an admin of your team to add you with this address.",
                    code="no_team",
                )
            return user, places

    def places(self, user_id: str) -> tuple[User, Sequence[Place]] | None:
        """A person whose log-in is under way, and the teams by membership alone; None if the person was removed."""
        with across_teams(self._session):
            user = self._repository.find(user_id)
            return None if user is None else (user, self._places(user, {}))

    def _recognise(self, visitor: Visitor, *, is_welcome: bool) -> User:
        user = self._repository.find_by_subject(visitor.subject)
        if user is not None:
            return user
        if visitor.email is None:
            raise NotAdmitted(
                "Your provider does not say that your email address is verified, so it cannot show who you are. "
                "Verify it there, and log in again.",
                code="email_not_verified",
            )
        user = self._repository.find_by_email(visitor.email)
        if user is None and is_welcome:
            user = self._repository.add_if_new(new_id(Prefix.USER), visitor.email, visitor.name)
        if user is None or user.deleted_at is not None:
            raise NotAdmitted(
                f"Nobody has invited {visitor.email}. Ask an admin of your team to add you as a member.",
                code="not_invited",
            )
        if user.subject is not None:
            raise NotAdmitted(
                f"The address {visitor.email} belongs to another account of your provider here. "
                "Ask an operator to remove the old one and to invite you anew.",
                code="address_of_another",
            )
        user.subject, user.name = visitor.subject, visitor.name
        self._repository.flush()
        return user

    def _follow_groups(self, user: User, roles: Mapping[str, Role]) -> None:
        actor = f"user:{user.id}"
        members = {member.team_id: member for member, _ in self._repository.members_of(user.id)}
        wanted = {team.id: _membership(roles[team.slug]) for team in self._repository.teams_with_slugs(set(roles))}
        for team_id, member in members.items():
            if not member.from_groups or wanted.get(team_id) == member.role:
                continue
            role = wanted.get(team_id)
            if role is None:
                self._repository.remove_member(member)
                ended = self._keys.revoke_all(self._clock.now(), team_id=team_id, user_id=user.id)
                self._audit.record(team_id, actor, "member.delete", user.id, by="groups", revoked_keys=list(ended))
            else:
                before, member.role = member.role, role.value
                self._repository.flush()
                self._keys.set_roles(role.value, team_id=team_id, user_id=user.id)
                self._audit.record(
                    team_id, actor, "member.update", user.id, by="groups", role=role.value, before=before
                )
        for team_id, role in wanted.items():
            if team_id not in members and self._repository.add_member(team_id, user.id, role.value, from_groups=True):
                self._audit.record(team_id, actor, "member.create", user.id, by="groups", role=role.value)

    def _places(self, user: User, roles: Mapping[str, Role]) -> Sequence[Place]:
        def role_in(slug: str, given: str) -> Role:
            return Role.OPERATOR if user.is_operator or roles.get(slug) is Role.OPERATOR else Role(given)

        return [
            Place(team.id, team.slug, team.name, role_in(team.slug, given))
            for team, given in self._repository.teams_of(user.id)
        ]


def _membership(role: Role) -> Role:
    """What the membership says: that somebody is an operator belongs to the session, not to the team."""
    return Role.ADMIN if role is Role.OPERATOR else role
