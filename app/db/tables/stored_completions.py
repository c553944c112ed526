"""A chat completion the caller asked to keep (`store: true`)."""

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, Created, Json


class StoredCompletion(Base):
    __tablename__ = "stored_completions"
    __table_args__ = (Index("ix_stored_completions_team_created", "team_id", "created_at", "id"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    team_id: Mapped[str] = mapped_column(ForeignKey("teams.id"))
    model: Mapped[str]
    messages: Mapped[Json] = mapped_column(doc="{messages: […]} of the request")
    completion: Mapped[Json]
    user_metadata: Mapped[Json | None] = mapped_column("metadata")
    created_at: Mapped[Created]
