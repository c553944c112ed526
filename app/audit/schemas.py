"""Wire shape of an audit event."""

from typing import Any, Literal

from pydantic import BaseModel

from app.clock import unix_seconds
from app.db.tables import AuditEvent


class AuditEventObject(BaseModel):
    id: str
    object: Literal["audit.event"] = "audit.event"
    created_at: int
    actor: str
    action: str
    object_id: str
    data: dict[str, Any]


def audit_event_object(row: AuditEvent) -> AuditEventObject:
    return AuditEventObject(
        id=f"{_PREFIX}{row.id}",
        created_at=unix_seconds(row.at),
        actor=row.actor,
        action=row.action,
        object_id=row.object_id,
        data=row.data,
    )


def sequence_of(event_id: str | None) -> int | None:
    """The number behind an event's id; -1, which no event has, for an id that is not one of ours."""
    if event_id is None:
        return None
    digits = event_id.removeprefix(_PREFIX)
    return int(digits) if digits.isascii() and digits.isdecimal() and len(digits) < _MAX_DIGITS else -1


_PREFIX = "audit-"
_MAX_DIGITS = 18
