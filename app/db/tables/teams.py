"""A team: the owner of everything, and the wall between tenants."""

from datetime import datetime

from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, Created


class Team(Base):
    __tablename__ = "teams"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    slug: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[Created]
    archived_at: Mapped[datetime | None] = mapped_column(doc="its keys are revoked, and it gets no new ones")
