"""A key of the artifact store that is being written and belongs to no committed row yet.

Written before the first byte, removed in the transaction that makes the owner visible. What a crash
leaves behind is found here and swept, so that no bytes are ever orphaned.
"""

from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, Created


class PendingArtifact(Base):
    __tablename__ = "pending_artifacts"

    artifact_key: Mapped[str] = mapped_column(primary_key=True)
    created_at: Mapped[Created] = mapped_column(index=True)
