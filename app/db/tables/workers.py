"""A GPU worker as the pool sees it."""

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, String, Text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, Created, Json


class Worker(Base):
    __tablename__ = "workers"
    __table_args__ = (CheckConstraint("drain IN ('finish', 'checkpoint')", name="drain"),)

    id: Mapped[str] = mapped_column(primary_key=True, doc="stable name: host and slot")
    incarnation: Mapped[str] = mapped_column(doc="changes with each start of the process")
    host: Mapped[str]
    device: Mapped[Json]
    resident_base: Mapped[str | None] = mapped_column(doc="weights_sha256 the engine holds")
    gpus: Mapped[int] = mapped_column(server_default="1", doc="that it works with; on a machine without any, 1 for it")
    memory_bytes: Mapped[int | None] = mapped_column(BigInteger, doc="of its device; NULL: not said")
    compute_capability: Mapped[int | None] = mapped_column(
        doc="of its GPU, 90 for 9.0; NULL: no GPU of CUDA, or not said"
    )
    bases: Mapped[list[str] | None] = mapped_column(ARRAY(String), doc="folders of bases on its disk; NULL: not said")
    drain: Mapped[str | None] = mapped_column(doc="claims nothing more: finish its job, or checkpoint and let go")
    unready: Mapped[str | None] = mapped_column(
        Text, doc="why it claims nothing though it lives, in words; NULL: it does"
    )
    started_at: Mapped[Created]
    heartbeat_at: Mapped[datetime]
