"""A GPU worker as the pool sees it."""

from datetime import datetime

from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, Created, Json


class Worker(Base):
    __tablename__ = "workers"

    id: Mapped[str] = mapped_column(primary_key=True, doc="stable name: host and slot")
    incarnation: Mapped[str] = mapped_column(doc="changes with each start of the process")
    host: Mapped[str]
    device: Mapped[Json]
    resident_base: Mapped[str | None] = mapped_column(doc="weights_sha256 the engine holds")
    started_at: Mapped[Created]
    heartbeat_at: Mapped[datetime]
