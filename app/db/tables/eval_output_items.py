"""One row of a run: the datum, then what was answered and how it was graded."""

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, FetchedValue, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, Json


class EvalOutputItem(Base):
    __tablename__ = "eval_output_items"
    __mapper_args__ = {"eager_defaults": False}  # noqa: RUF012 - SQLAlchemy reads this class attribute
    __table_args__ = (
        UniqueConstraint("run_id", "position"),
        Index("ix_eval_output_items_pending", "run_id", "position", postgresql_where=text("status = 'pending'")),
        CheckConstraint("status IN ('pending','pass','fail','error')", name="status"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    run_id: Mapped[str] = mapped_column(ForeignKey("eval_runs.id", ondelete="CASCADE"))
    team_id: Mapped[str] = mapped_column(server_default=FetchedValue(), doc="the run's; a trigger fills it")
    position: Mapped[int] = mapped_column(doc="from 0, in the order of the data")
    item: Mapped[Json]
    given: Mapped[Json | None] = mapped_column(doc="the sample that came with the item")
    fault: Mapped[str | None] = mapped_column(doc="why the row is no item")
    status: Mapped[str]
    sample: Mapped[Json | None] = mapped_column(doc="as on the wire; NULL while pending")
    results: Mapped[list[Any] | None] = mapped_column(doc="one a criterion, in their order")
    created_at: Mapped[datetime | None] = mapped_column(doc="when it was done")
