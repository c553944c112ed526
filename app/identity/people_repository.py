"""All SQL of people and of their membership in teams."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.db.keyset import Page, fetch_page
from app.db.tables import Team, TeamMember, User


class PeopleRepository:
    def __init__(self, session: Session) -> None:
        self._session = session

    def flush(self) -> None:
        self._session.flush()

    def add_if_new(self, user_id: str, email: str, name: str) -> User:
        """The person of this address, locked; made if there is none."""
        values = {"id": user_id, "email": email, "name": name}
        self._session.execute(insert(User).values(**values).on_conflict_do_nothing(index_elements=["email"]))
        return self._session.scalars(select(User).where(User.email == email).with_for_update()).one()

    def find(self, user_id: str) -> User | None:
        """A person who is not deleted, locked."""
        statement = select(User).where(User.id == user_id, User.deleted_at.is_(None)).with_for_update()
        return self._session.scalars(statement).one_or_none()

    def find_by_subject(self, subject: str) -> User | None:
        """A person who is not deleted and has logged in as this subject of a provider, locked."""
        statement = select(User).where(User.subject == subject, User.deleted_at.is_(None)).with_for_update()
        return self._session.scalars(statement).one_or_none()

    def find_by_email(self, email: str) -> User | None:
        """A person of this address, a deleted one too, locked."""
        return self._session.scalars(select(User).where(User.email == email).with_for_update()).one_or_none()

    def by_id(self, ids: set[str]) -> dict[str, User]:
        if not ids:
            return {}
        return {row.id: row for row in self._session.scalars(select(User).where(User.id.in_(ids)))}

    def page(self, *, emails: Sequence[str], after: str | None, limit: int) -> Page[User]:
        return fetch_page(
            self._session,
            User,
            order_by=[User.created_at, User.id],
            identity=User.id,
            scope=[],
            where=[User.deleted_at.is_(None), *([User.email.in_(emails)] if emails else [])],
            after=after,
            limit=limit,
        )

    def mark_deleted(self, user: User, moment: datetime) -> None:
        user.deleted_at = moment
        user.subject = None
        self._session.execute(delete(TeamMember).where(TeamMember.user_id == user.id))
        self._session.flush()

    # Membership.

    def add_member(self, team_id: str, user_id: str, role: str, *, from_groups: bool = False) -> bool:
        """Whether the person was no member before."""
        values = {"team_id": team_id, "user_id": user_id, "role": role, "from_groups": from_groups}
        statement = insert(TeamMember).values(**values).on_conflict_do_nothing().returning(TeamMember.user_id)
        return self._session.scalar(statement) is not None

    def members_of(self, user_id: str) -> Sequence[tuple[TeamMember, Team]]:
        """All memberships of a person in teams that are in use, locked, in the order of the teams' ids."""
        rows = self._session.execute(
            select(TeamMember, Team)
            .join(Team, Team.id == TeamMember.team_id)
            .where(TeamMember.user_id == user_id, Team.archived_at.is_(None))
            .order_by(TeamMember.team_id)
            .with_for_update(of=TeamMember)
        )
        return [(row[0], row[1]) for row in rows]

    def teams_with_slugs(self, slugs: set[str]) -> Sequence[Team]:
        """Teams in use, in the order of their ids."""
        return self._session.scalars(
            select(Team).where(Team.slug.in_(slugs), Team.archived_at.is_(None)).order_by(Team.id)
        ).all()

    def find_member(self, team_id: str, user_id: str) -> TeamMember | None:
        """The membership, locked."""
        statement = select(TeamMember).where(TeamMember.team_id == team_id, TeamMember.user_id == user_id)
        return self._session.scalars(statement.with_for_update()).one_or_none()

    def list_members(self, team_id: str, *, after: str | None, limit: int) -> Page[TeamMember]:
        return fetch_page(
            self._session,
            TeamMember,
            order_by=[TeamMember.added_at, TeamMember.user_id],
            identity=TeamMember.user_id,
            scope=[TeamMember.team_id == team_id],
            after=after,
            limit=limit,
        )

    def teams_of(self, user_id: str) -> Sequence[tuple[Team, str]]:
        """Teams that are not archived, and the person's role in each."""
        rows = self._session.execute(
            select(Team, TeamMember.role)
            .join(TeamMember, TeamMember.team_id == Team.id)
            .where(TeamMember.user_id == user_id, Team.archived_at.is_(None))
            .order_by(Team.slug)
        )
        return [(row[0], row[1]) for row in rows]

    def remove_member(self, member: TeamMember) -> None:
        self._session.delete(member)
        self._session.flush()
