"""A run of an eval: its data, where it stands, and who holds its lease."""

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, Created, Json


class EvalRun(Base):
    __tablename__ = "eval_runs"
    __table_args__ = (
        Index("ix_eval_runs_eval_created", "eval_id", "created_at", "id"),
        Index("ix_eval_runs_team_claimed", "team_id", "claimed_at"),
        Index("ix_eval_runs_open", "created_at", postgresql_where=text("status IN ('queued', 'in_progress')")),
        CheckConstraint("status IN ('queued','in_progress','completed','canceled','failed')", name="status"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    eval_id: Mapped[str] = mapped_column(ForeignKey("evals.id", ondelete="CASCADE"))
    team_id: Mapped[str] = mapped_column(ForeignKey("teams.id"))
    created_by: Mapped[str]
    name: Mapped[str]
    status: Mapped[str]
    model: Mapped[str | None] = mapped_column(doc="the model that is sampled; NULL where the rows hold the samples")
    data_source: Mapped[Json] = mapped_column(doc="as it was sent")
    user_metadata: Mapped[Json | None] = mapped_column("metadata")
    error: Mapped[Json | None]
    total: Mapped[int | None] = mapped_column(doc="its items; NULL until all of them are laid out")
    tally: Mapped[Json] = mapped_column(doc="outcomes, outcomes by criterion and usage by model of the items done")
    created_at: Mapped[Created]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    claimed_at: Mapped[datetime | None] = mapped_column(doc="when a worker last took it up")
    # The lease. Every write of a worker carries `WHERE id AND fence`; the fence only grows.
    fence: Mapped[int] = mapped_column(BigInteger, server_default="0")
    owner: Mapped[str | None] = mapped_column(doc="worker_id/incarnation of the lease's holder; NULL = nobody")
    lease_until: Mapped[datetime | None]
    attempts: Mapped[int] = mapped_column(server_default="0", doc="lost attempts since the last item was done")
    not_before: Mapped[datetime | None] = mapped_column(doc="back-off after a lost attempt")
