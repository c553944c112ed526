"""All SQL of the audit log: append and read, nothing else."""

from sqlalchemy.orm import Session

from app.db.base import Json
from app.db.keyset import Page, fetch_page
from app.db.tables import AuditEvent


class AuditRepository:
    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, *, team_id: str | None, actor: str, action: str, object_id: str, data: Json) -> None:
        self._session.add(AuditEvent(team_id=team_id, actor=actor, action=action, object_id=object_id, data=data))

    def page(self, team_id: str, *, object_id: str | None, after: int | None, limit: int) -> Page[AuditEvent]:
        return fetch_page(
            self._session,
            AuditEvent,
            order_by=[AuditEvent.id],
            identity=AuditEvent.id,
            scope=[AuditEvent.team_id == team_id],
            where=[] if object_id is None else [AuditEvent.object_id == object_id],
            after=after,
            limit=limit,
        )
