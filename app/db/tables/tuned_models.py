"""A fine-tuned model or checkpoint: an adapter on a base, immutable under its name."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, false
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, Created, Json


class TunedModel(Base):
    __tablename__ = "tuned_models"
    __table_args__ = (Index("ix_tuned_models_team_created", "team_id", "created_at", "id"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    team_id: Mapped[str] = mapped_column(ForeignKey("teams.id"))
    base_id: Mapped[str] = mapped_column(ForeignKey("base_models.id"))
    job_id: Mapped[str] = mapped_column(index=True)
    step: Mapped[int]
    is_final: Mapped[bool]
    recipe: Mapped[str] = mapped_column(server_default="chat", doc="as `Recipe` of the contracts: how it is served")
    labels: Mapped[list[Any] | None] = mapped_column(doc="of a classification: all labels, as its head has them")
    is_multi_label: Mapped[bool] = mapped_column(server_default=false())
    tuning: Mapped[str] = mapped_column(server_default="adapter", doc="adapter, or full: every weight of the base")
    stage: Mapped[str] = mapped_column(server_default="candidate", doc="candidate, approved or serving")
    adapter_sha256: Mapped[str] = mapped_column(doc="of the weights file")
    archive_key: Mapped[str]
    archive_sha256: Mapped[str]
    archive_bytes: Mapped[int] = mapped_column(BigInteger)
    files: Mapped[Json]
    created_at: Mapped[Created]
    deleted_at: Mapped[datetime | None]
    purged_at: Mapped[datetime | None] = mapped_column(doc="when the bytes of a deleted model were removed")
