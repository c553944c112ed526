"""One row of figures for each optimizer step; a resumed attempt overwrites the same keys."""

from sqlalchemy import FetchedValue, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, Created, Json


class JobMetric(Base):
    __tablename__ = "job_metrics"
    __mapper_args__ = {"eager_defaults": False}  # noqa: RUF012 - SQLAlchemy reads this class attribute

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True)
    team_id: Mapped[str] = mapped_column(server_default=FetchedValue(), doc="the job's; a trigger fills it")
    recorded_at: Mapped[Created]
    figures: Mapped[Json]
