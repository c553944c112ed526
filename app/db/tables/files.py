"""An uploaded or produced file; its bytes lie in the artifact store under `artifact_key`."""

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, Created


class File(Base):
    __tablename__ = "files"
    __table_args__ = (Index("ix_files_team_created", "team_id", "created_at", "id"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    team_id: Mapped[str] = mapped_column(ForeignKey("teams.id"))
    filename: Mapped[str]
    purpose: Mapped[str]
    bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str]
    artifact_key: Mapped[str]
    created_at: Mapped[Created]
    expires_at: Mapped[datetime | None] = mapped_column(index=True)
    deleted_at: Mapped[datetime | None]
    purged_at: Mapped[datetime | None] = mapped_column(doc="when the bytes of a deleted or expired file were removed")
