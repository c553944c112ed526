"""A file that arrives in parts."""

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, Created


class Upload(Base):
    __tablename__ = "uploads"

    id: Mapped[str] = mapped_column(primary_key=True)
    team_id: Mapped[str] = mapped_column(ForeignKey("teams.id"), index=True)
    filename: Mapped[str]
    purpose: Mapped[str]
    mime_type: Mapped[str]
    bytes: Mapped[int] = mapped_column(BigInteger)
    status: Mapped[str]
    file_id: Mapped[str | None] = mapped_column(ForeignKey("files.id"))
    file_expires_after_seconds: Mapped[int | None]
    created_at: Mapped[Created]
    expires_at: Mapped[datetime] = mapped_column(index=True)


class UploadPart(Base):
    __tablename__ = "upload_parts"

    id: Mapped[str] = mapped_column(primary_key=True)
    upload_id: Mapped[str] = mapped_column(ForeignKey("uploads.id", ondelete="CASCADE"), index=True)
    bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str]
    artifact_key: Mapped[str]
    created_at: Mapped[Created]
