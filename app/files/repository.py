"""All SQL of files and of the keys whose bytes are on their way."""

from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, delete, func, or_, select
from sqlalchemy.orm import Session

from app.db.keyset import Page, fetch_page
from app.db.tables import File, PendingArtifact


class FileRepository:
    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, file: File) -> None:
        """Make the file visible; its key is no longer pending."""
        self._session.add(file)
        self._session.execute(delete(PendingArtifact).where(PendingArtifact.artifact_key == file.artifact_key))
        self._session.flush()

    def find(self, team_id: str, file_id: str) -> File | None:
        statement = select(File).where(File.id == file_id, File.team_id == team_id, *_visible())
        return self._session.scalars(statement).one_or_none()

    def lock(self, team_id: str, file_id: str) -> File | None:
        statement = select(File).where(File.id == file_id, File.team_id == team_id, *_visible()).with_for_update()
        return self._session.scalars(statement).one_or_none()

    def page(self, team_id: str, *, purpose: str | None, after: str | None, limit: int, ascending: bool) -> Page[File]:
        return fetch_page(
            self._session,
            File,
            order_by=[File.created_at, File.id],
            identity=File.id,
            scope=[File.team_id == team_id],
            where=[*_visible(), *([] if purpose is None else [File.purpose == purpose])],
            after=after,
            limit=limit,
            ascending=ascending,
        )

    def mark_deleted(self, file: File, moment: datetime) -> None:
        file.deleted_at = moment
        self._session.flush()

    def lock_due(self, limit: int) -> list[File]:
        """Files that are deleted or expired while their bytes are still there; skips those another sweep holds."""
        is_over = or_(File.deleted_at.is_not(None), File.expires_at <= func.clock_timestamp())
        statement = select(File).where(File.purged_at.is_(None), is_over).limit(limit)
        return list(self._session.scalars(statement.with_for_update(skip_locked=True)))

    def mark_purged(self, file: File, moment: datetime) -> None:
        file.deleted_at = file.deleted_at or moment
        file.purged_at = moment

    def add_pending(self, key: str) -> None:
        self._session.add(PendingArtifact(artifact_key=key))

    def remove_pending(self, key: str) -> None:
        self._session.execute(delete(PendingArtifact).where(PendingArtifact.artifact_key == key))

    def lock_abandoned(self, age: timedelta, limit: int) -> list[str]:
        """Keys whose write began so long ago that its process must be gone."""
        statement = (
            select(PendingArtifact).where(PendingArtifact.created_at < func.clock_timestamp() - age).limit(limit)
        )
        return [row.artifact_key for row in self._session.scalars(statement.with_for_update(skip_locked=True))]


def _visible() -> list[ColumnElement[bool]]:
    return [File.deleted_at.is_(None), or_(File.expires_at.is_(None), File.expires_at > func.clock_timestamp())]
