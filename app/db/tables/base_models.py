"""A base model as the registry knows it: named by id, checked by hashes."""

from sqlalchemy import BigInteger
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, Created, Json


class BaseModelRow(Base):
    __tablename__ = "base_models"

    id: Mapped[str] = mapped_column(primary_key=True)
    folder: Mapped[str]
    kind: Mapped[str] = mapped_column(doc="decoder, encoder or encoder_decoder")
    licence: Mapped[str]
    source: Mapped[str]
    context_length: Mapped[int]
    parameters: Mapped[int] = mapped_column(BigInteger)
    has_chat_template: Mapped[bool]
    files: Mapped[Json]
    weights_sha256: Mapped[str]
    created_at: Mapped[Created]
