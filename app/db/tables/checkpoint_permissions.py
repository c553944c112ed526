"""The right of another team to use a tuned model."""

from sqlalchemy import ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, Created


class CheckpointPermission(Base):
    __tablename__ = "checkpoint_permissions"
    __table_args__ = (UniqueConstraint("model_id", "team_id"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    model_id: Mapped[str] = mapped_column(ForeignKey("tuned_models.id"))
    team_id: Mapped[str] = mapped_column(index=True)
    owner_team_id: Mapped[str] = mapped_column(doc="the model's team")
    created_at: Mapped[Created]
