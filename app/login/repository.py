"""All SQL of log-ins under way."""

from datetime import timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from app.db.base import Json
from app.db.tables import LoginStep

_SWEEP_ROWS = 5000


class LoginRepository:
    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, sha256: bytes, purpose: str, data: Json, *, lives: timedelta) -> None:
        now = self._session.scalars(select(func.clock_timestamp())).one()
        self._session.add(LoginStep(sha256=sha256, purpose=purpose, data=data, expires_at=now + lives))
        self._session.flush()

    def take(self, sha256: bytes, purpose: str) -> Json | None:
        """What was kept under a secret, once; None if there is nothing, or it is too old."""
        statement = delete(LoginStep).where(LoginStep.sha256 == sha256, LoginStep.purpose == purpose)
        row = self._session.execute(
            statement.returning(LoginStep.data, LoginStep.expires_at > func.clock_timestamp())
        ).one_or_none()
        return None if row is None or not row[1] else row[0]

    def forget_old(self) -> int:
        """Remove steps that nobody took in time; how many."""
        old = select(LoginStep.sha256).where(LoginStep.expires_at < func.clock_timestamp()).limit(_SWEEP_ROWS)
        statement = delete(LoginStep).where(LoginStep.sha256.in_(old)).returning(LoginStep.sha256)
        return len(self._session.scalars(statement).all())
