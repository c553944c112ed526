"""What a team may have of the pool. A team without a row has the defaults."""

from sqlalchemy import CheckConstraint, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, Created


class TeamLimits(Base):
    __tablename__ = "team_limits"
    __table_args__ = (
        CheckConstraint("weight > 0", name="weight"),
        CheckConstraint("max_gpus >= 0", name="max_gpus"),
        CheckConstraint("max_queued_jobs >= 0", name="max_queued_jobs"),
    )

    team_id: Mapped[str] = mapped_column(ForeignKey("teams.id"), primary_key=True)
    weight: Mapped[float] = mapped_column(server_default="1", doc="of its share of the GPUs")
    max_gpus: Mapped[int | None] = mapped_column(doc="GPUs in use at once; NULL = no limit")
    max_queued_jobs: Mapped[int | None] = mapped_column(doc="submitted and not yet running; NULL = no limit")
    may_share: Mapped[bool] = mapped_column(
        server_default="true", doc="whether its jobs may ride in one process with other teams'"
    )
    updated_at: Mapped[Created]
