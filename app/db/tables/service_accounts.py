"""A program of a team that has keys of its own: they live and die with it."""

from datetime import datetime

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, Created


class ServiceAccount(Base):
    __tablename__ = "service_accounts"
    __table_args__ = (Index("ix_service_accounts_team_created", "team_id", "created_at", "id"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    team_id: Mapped[str] = mapped_column(ForeignKey("teams.id"))
    name: Mapped[str]
    role: Mapped[str]
    created_at: Mapped[Created]
    deleted_at: Mapped[datetime | None]
