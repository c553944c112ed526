"""The answer already given to a POST with this Idempotency-Key."""

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, Created, Json


class IdempotencyKey(Base):
    __tablename__ = "idempotency_keys"

    team_id: Mapped[str] = mapped_column(ForeignKey("teams.id"), primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[str]
    status: Mapped[int | None]
    response: Mapped[Json | None]
    created_at: Mapped[Created] = mapped_column(index=True)
