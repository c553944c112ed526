"""An eval: what is asked of the data, and which graders judge it."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, Created, Json


class Eval(Base):
    __tablename__ = "evals"
    __table_args__ = (
        Index("ix_evals_team_created", "team_id", "created_at", "id"),
        Index("ix_evals_team_updated", "team_id", "updated_at", "id"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    team_id: Mapped[str] = mapped_column(ForeignKey("teams.id"))
    created_by: Mapped[str]
    name: Mapped[str]
    data_source_config: Mapped[Json] = mapped_column(doc="as it was sent")
    testing_criteria: Mapped[list[Any]] = mapped_column(doc="graders as they were sent; never changed")
    user_metadata: Mapped[Json | None] = mapped_column("metadata")
    created_at: Mapped[Created]
    updated_at: Mapped[datetime]
