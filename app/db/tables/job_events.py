"""What a job's owner reads as it goes: messages and metrics, in order."""

from sqlalchemy import BigInteger, FetchedValue, ForeignKey, Identity, Index
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, Created, Json


class JobEvent(Base):
    __tablename__ = "job_events"
    __mapper_args__ = {"eager_defaults": False}  # noqa: RUF012 - SQLAlchemy reads this class attribute
    __table_args__ = (Index("ix_job_events_job_sequence", "job_id", "sequence"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    sequence: Mapped[int] = mapped_column(BigInteger, Identity(always=True), unique=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    team_id: Mapped[str] = mapped_column(server_default=FetchedValue(), doc="the job's; a trigger fills it")
    created_at: Mapped[Created]
    level: Mapped[str]
    type: Mapped[str]
    message: Mapped[str]
    data: Mapped[Json | None]
