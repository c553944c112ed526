"""All SQL of teams, keys and service accounts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, delete, func, select, text, update
from sqlalchemy.orm import Session

from app.db.keyset import Page, fetch_page
from app.db.scope import find_key
from app.db.tables import ApiKey, ServiceAccount, Team

# Any constant of ours; held until the end of the transaction.
_FIRST_KEY_LOCK = 0x7453_4B31
_USED_EVERY = timedelta(minutes=1)
_SWEEP_ROWS = 500


@dataclass(frozen=True)
class FoundKey:
    """A key and what is needed of its team."""

    id: str
    team_id: str
    slug: str
    role: str
    permissions: list[str] | None
    sha256: bytes
    user_id: str | None
    expires_at: datetime | None
    revoked_at: datetime | None
    archived_at: datetime | None
    last_used_at: datetime | None


_OF_KEY = tuple(field.name for field in fields(FoundKey))


def found_key(row: Mapping[str, Any] | None) -> FoundKey | None:
    """From the columns of `tunesmith_find_caller`."""
    return None if row is None else FoundKey(**{name: row[name] for name in _OF_KEY})


class IdentityRepository:
    def __init__(self, session: Session) -> None:
        self._session = session

    def lock_first_key(self) -> None:
        """One process at a time makes the first team."""
        self._session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _FIRST_KEY_LOCK})

    def flush(self) -> None:
        self._session.flush()

    # Teams.

    def find_team(self, slug: str) -> Team | None:
        return self._session.scalars(select(Team).where(Team.slug == slug)).one_or_none()

    def find_team_by_id(self, team_id: str) -> Team | None:
        return self._session.scalars(select(Team).where(Team.id == team_id)).one_or_none()

    def lock_team(self, team_id: str) -> Team | None:
        return self._session.scalars(select(Team).where(Team.id == team_id).with_for_update()).one_or_none()

    def share_lock_team(self, team_id: str) -> Team | None:
        """The team, which cannot be archived before this transaction ends."""
        statement = select(Team).where(Team.id == team_id).with_for_update(read=True)
        return self._session.scalars(statement.execution_options(populate_existing=True)).one_or_none()

    def add_team(self, team: Team) -> None:
        self._session.add(team)
        self._session.flush()

    def list_teams(self, *, only: str | None, with_archived: bool, after: str | None, limit: int) -> Page[Team]:
        return fetch_page(
            self._session,
            Team,
            order_by=[Team.created_at, Team.id],
            identity=Team.id,
            scope=[] if only is None else [Team.id == only],
            where=[] if with_archived else [Team.archived_at.is_(None)],
            after=after,
            limit=limit,
        )

    # Keys.

    def add_key(self, key: ApiKey) -> None:
        self._session.add(key)
        self._session.flush()

    def find_key(self, sha256: bytes) -> FoundKey | None:
        """The key with this hash, of whichever team: asked before it is known who calls."""
        return found_key(find_key(self._session, sha256))

    def touch_key(self, key_id: str) -> None:
        """Note that the key was used, once a minute at most, and without waiting for anybody."""
        now = func.clock_timestamp()
        due = (ApiKey.last_used_at.is_(None)) | (ApiKey.last_used_at < now - _USED_EVERY)
        free = select(ApiKey.id).where(ApiKey.id == key_id, due).with_for_update(skip_locked=True).scalar_subquery()
        self._session.execute(
            update(ApiKey)
            .where(ApiKey.id == free)
            .values(last_used_at=now)
            .execution_options(synchronize_session=False)
        )

    def list_keys(
        self,
        *,
        team_id: str | None = None,
        role: str | None = None,
        only_live: bool = False,
        after: str | None,
        limit: int,
        ascending: bool = False,
    ) -> Page[ApiKey]:
        """Keys of a team, or of a role in any team."""
        scope: list[ColumnElement[bool]] = []
        if team_id is not None:
            scope.append(ApiKey.team_id == team_id)
        if role is not None:
            scope.append(ApiKey.role == role)
        return fetch_page(
            self._session,
            ApiKey,
            order_by=[ApiKey.created_at, ApiKey.id],
            identity=ApiKey.id,
            scope=scope,
            where=[ApiKey.revoked_at.is_(None)] if only_live else [],
            after=after,
            limit=limit,
            ascending=ascending,
        )

    def find_key_of_team(self, team_id: str | None, key_id: str) -> ApiKey | None:
        """The key, locked; of any team for None."""
        statement = select(ApiKey).where(ApiKey.id == key_id).with_for_update()
        if team_id is not None:
            statement = statement.where(ApiKey.team_id == team_id)
        return self._session.scalars(statement).one_or_none()

    def revoke(self, key: ApiKey, moment: datetime) -> None:
        key.revoked_at = moment
        self._session.flush()

    def revoke_all(
        self,
        moment: datetime,
        *,
        team_id: str | None = None,
        service_account_id: str | None = None,
        user_id: str | None = None,
    ) -> Sequence[str]:
        """Revoke what lives of a team's, an account's or a person's keys; their ids."""
        where: list[ColumnElement[bool]] = [ApiKey.revoked_at.is_(None)]
        for column, value in (
            (ApiKey.team_id, team_id),
            (ApiKey.service_account_id, service_account_id),
            (ApiKey.user_id, user_id),
        ):
            if value is not None:
                where.append(column == value)
        if len(where) == 1:
            raise ValueError("revoke_all needs to know whose keys")
        return self._session.scalars(
            update(ApiKey)
            .where(*where)
            .values(revoked_at=moment)
            .returning(ApiKey.id)
            .execution_options(synchronize_session=False)
        ).all()

    def forget_sessions(self, before: datetime) -> int:
        """Remove sessions that expired before this moment, a few hundred at most; how many."""
        old = select(ApiKey.id).where(ApiKey.user_id.is_not(None), ApiKey.expires_at < before).limit(_SWEEP_ROWS)
        return len(self._session.scalars(delete(ApiKey).where(ApiKey.id.in_(old)).returning(ApiKey.id)).all())

    def set_roles(
        self, role: str, *, team_id: str, service_account_id: str | None = None, user_id: str | None = None
    ) -> None:
        """Let the keys of an account or a person have their owner's new role."""
        owner = ApiKey.service_account_id == service_account_id if service_account_id else ApiKey.user_id == user_id
        self._session.execute(
            update(ApiKey)
            .where(ApiKey.team_id == team_id, owner)
            .values(role=role)
            .execution_options(synchronize_session=False)
        )

    # Service accounts.

    def add_account(self, account: ServiceAccount) -> None:
        self._session.add(account)
        self._session.flush()

    def find_account(self, team_id: str, account_id: str) -> ServiceAccount | None:
        """An account that is not deleted, locked."""
        statement = select(ServiceAccount).where(
            ServiceAccount.id == account_id, ServiceAccount.team_id == team_id, ServiceAccount.deleted_at.is_(None)
        )
        return self._session.scalars(statement.with_for_update()).one_or_none()

    def accounts_by_id(self, ids: set[str]) -> dict[str, ServiceAccount]:
        if not ids:
            return {}
        rows = self._session.scalars(select(ServiceAccount).where(ServiceAccount.id.in_(ids)))
        return {row.id: row for row in rows}

    def list_accounts(self, team_id: str, *, after: str | None, limit: int) -> Page[ServiceAccount]:
        return fetch_page(
            self._session,
            ServiceAccount,
            order_by=[ServiceAccount.created_at, ServiceAccount.id],
            identity=ServiceAccount.id,
            scope=[ServiceAccount.team_id == team_id],
            where=[ServiceAccount.deleted_at.is_(None)],
            after=after,
            limit=limit,
        )
