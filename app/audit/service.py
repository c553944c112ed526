"""Who did what to which object, when; written in the transaction it describes."""

from typing import Any

from sqlalchemy.orm import Session

from app.audit.repository import AuditRepository
from app.db.keyset import Page
from app.db.tables import AuditEvent


class AuditService:
    def __init__(self, session: Session) -> None:
        self._repository = AuditRepository(session)

    def record(self, team_id: str | None, actor: str, action: str, object_id: str, **data: Any) -> None:
        """Append one event. `actor` is `key:…`, `worker:…` or `system`; `action` is `noun.verb`; `data` is JSON."""
        self._repository.add(team_id=team_id, actor=actor, action=action, object_id=object_id, data=data)

    def page(
        self, team_id: str, *, object_id: str | None = None, after: int | None = None, limit: int = 20
    ) -> Page[AuditEvent]:
        """A team's events, newest first."""
        return self._repository.page(team_id, object_id=object_id, after=after, limit=limit)
