"""All SQL of teams and keys."""

from datetime import datetime

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from app.db.keyset import Page, fetch_page
from app.db.tables import ApiKey, Team

# Any constant of ours; held until the end of the transaction.
_FIRST_KEY_LOCK = 0x7453_4B31


class IdentityRepository:
    def __init__(self, session: Session) -> None:
        self._session = session

    def lock_first_key(self) -> None:
        """One process at a time makes the first team."""
        self._session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _FIRST_KEY_LOCK})

    def find_team(self, slug: str) -> Team | None:
        return self._session.scalars(select(Team).where(Team.slug == slug)).one_or_none()

    def get_team(self, team_id: str) -> Team:
        return self._session.get_one(Team, team_id)

    def add_team(self, team: Team) -> None:
        self._session.add(team)
        self._session.flush()

    def add_key(self, key: ApiKey) -> None:
        self._session.add(key)
        self._session.flush()

    def find_key(self, sha256: bytes) -> tuple[ApiKey, Team] | None:
        statement = select(ApiKey, Team).join(Team, Team.id == ApiKey.team_id).where(ApiKey.sha256 == sha256)
        row = self._session.execute(statement).one_or_none()
        return None if row is None else (row[0], row[1])

    def list_keys(self, team_id: str, *, after: str | None, limit: int) -> Page[ApiKey]:
        return fetch_page(
            self._session,
            ApiKey,
            order_by=[ApiKey.created_at, ApiKey.id],
            identity=ApiKey.id,
            scope=[ApiKey.team_id == team_id],
            after=after,
            limit=limit,
        )

    def find_key_of_team(self, team_id: str, key_id: str) -> ApiKey | None:
        statement = select(ApiKey).where(ApiKey.id == key_id, ApiKey.team_id == team_id).with_for_update()
        return self._session.scalars(statement).one_or_none()

    def revoke(self, key: ApiKey, moment: datetime) -> None:
        key.revoked_at = moment
        self._session.flush()
