"""Who did what to which object, when; append-only (a trigger refuses UPDATE and DELETE), chained by hashes."""

from datetime import datetime

from sqlalchemy import BigInteger, Identity, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, Json


class AuditEvent(Base):
    __tablename__ = "audit_events"
    __table_args__ = (
        Index("ix_audit_events_team_object", "team_id", "object_id", "sequence"),
        Index("ix_audit_events_team_sequence", "team_id", "sequence", unique=True),
        Index("ix_audit_events_sequence", "sequence", unique=True, postgresql_where=text("team_id IS NULL")),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    at: Mapped[datetime] = mapped_column(doc="the database's clock when the row was appended")
    team_id: Mapped[str | None]
    actor: Mapped[str]
    action: Mapped[str]
    object_id: Mapped[str]
    data: Mapped[Json]
    sequence: Mapped[int] = mapped_column(BigInteger, doc="in the team's chain, from 1, without gaps")
    previous_sha256: Mapped[str] = mapped_column(doc="of the row before; 64 zeros for the first")
    sha256: Mapped[str] = mapped_column(doc="over the canonical JSON of this row and `previous_sha256`")
