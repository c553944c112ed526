"""Who did what to which object, when; append-only (a trigger refuses UPDATE and DELETE)."""

from sqlalchemy import BigInteger, Identity, Index
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, Created, Json


class AuditEvent(Base):
    __tablename__ = "audit_events"
    __table_args__ = (Index("ix_audit_events_team_object", "team_id", "object_id", "id"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    at: Mapped[Created]
    team_id: Mapped[str | None]
    actor: Mapped[str]
    action: Mapped[str]
    object_id: Mapped[str]
    data: Mapped[Json]
