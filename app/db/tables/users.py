"""A person, known by an email address; teams have people as members."""

from datetime import datetime

from sqlalchemy import ForeignKey, Index, false
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, Created


class User(Base):
    __tablename__ = "users"
    __table_args__ = (Index("ix_users_created", "created_at", "id"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(unique=True, doc="in lower case")
    name: Mapped[str]
    is_operator: Mapped[bool] = mapped_column(server_default=false())
    subject: Mapped[str | None] = mapped_column(unique=True, doc="'issuer subject'; NULL before the first log-in")
    created_at: Mapped[Created]
    deleted_at: Mapped[datetime | None]


class TeamMember(Base):
    __tablename__ = "team_members"

    team_id: Mapped[str] = mapped_column(ForeignKey("teams.id"), primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id"), primary_key=True, index=True)
    role: Mapped[str]
    from_groups: Mapped[bool] = mapped_column(
        server_default=false(), doc="given by the provider's groups, and taken back with them"
    )
    added_at: Mapped[Created]
