"""What a log-in has to remember between two steps, under the SHA-256 of a secret that is good for one use."""

from datetime import datetime

from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, Json


class LoginStep(Base):
    __tablename__ = "login_steps"

    sha256: Mapped[bytes] = mapped_column(primary_key=True)
    purpose: Mapped[str] = mapped_column(doc="which step the secret is for: 'answer' or 'code'")
    data: Mapped[Json]
    expires_at: Mapped[datetime] = mapped_column(index=True)
