"""All SQL of uploads in parts."""

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from app.db.tables import PendingArtifact, Upload, UploadPart


class UploadRepository:
    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, upload: Upload) -> None:
        self._session.add(upload)
        self._session.flush()

    def flush(self) -> None:
        self._session.flush()

    def find(self, team_id: str, upload_id: str) -> Upload | None:
        statement = select(Upload).where(Upload.id == upload_id, Upload.team_id == team_id)
        return self._session.scalars(statement).one_or_none()

    def lock(self, team_id: str, upload_id: str) -> Upload | None:
        statement = select(Upload).where(Upload.id == upload_id, Upload.team_id == team_id)
        # The row may be in the session from before a release; what the database says now counts.
        statement = statement.with_for_update().execution_options(populate_existing=True)
        return self._session.scalars(statement).one_or_none()

    def add_part(self, part: UploadPart) -> None:
        self._session.add(part)
        self._session.execute(delete(PendingArtifact).where(PendingArtifact.artifact_key == part.artifact_key))
        self._session.flush()

    def parts(self, upload_id: str) -> dict[str, UploadPart]:
        statement = select(UploadPart).where(UploadPart.upload_id == upload_id)
        return {part.id: part for part in self._session.scalars(statement)}

    def received_bytes(self, upload_id: str) -> int:
        statement = select(func.coalesce(func.sum(UploadPart.bytes), 0)).where(UploadPart.upload_id == upload_id)
        return int(self._session.scalar(statement) or 0)

    def lock_over(self, limit: int) -> list[Upload]:
        """Uploads that are over, by word or by time, while parts of theirs may still be in the store."""
        has_parts = select(UploadPart.id).where(UploadPart.upload_id == Upload.id).exists()
        is_over = (Upload.status == "pending") & (Upload.expires_at <= func.clock_timestamp())
        statement = select(Upload).where(is_over | ((Upload.status != "pending") & has_parts)).limit(limit)
        return list(self._session.scalars(statement.with_for_update(skip_locked=True)))

    def remove_parts(self, upload_id: str) -> None:
        self._session.execute(delete(UploadPart).where(UploadPart.upload_id == upload_id))
