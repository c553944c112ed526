"""The newest row of each team's audit chain; locked while a row is appended, so that a chain never forks."""

from sqlalchemy import BigInteger
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base


class AuditHead(Base):
    __tablename__ = "audit_heads"

    team_id: Mapped[str] = mapped_column(primary_key=True, doc="'installation' for what belongs to no team")
    sequence: Mapped[int] = mapped_column(BigInteger, doc="0: no row yet")
    sha256: Mapped[str]
