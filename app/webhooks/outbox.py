"""Telling a team of an event: one row for each endpoint that wants it, in the transaction of what it tells of."""

import json

from sqlalchemy.orm import Session

from app.clock import unix_seconds
from app.db.tables import WebhookDelivery
from app.ids import Prefix, new_id
from app.webhooks.event_types import EventType
from app.webhooks.repository import WebhookRepository


class Outbox:
    """What is announced here is sent after the commit by the control role, and never if there is no commit."""

    def __init__(self, session: Session) -> None:
        self._repository = WebhookRepository(session)

    def announce(self, team_id: str, event_type: EventType | None, object_id: str) -> None:
        """Queue the event for the team's endpoints that asked for it. None is told to nobody."""
        if event_type is None:
            return
        endpoint_ids = self._repository.hold_listening(team_id, event_type)
        if not endpoint_ids:
            return
        event_id = new_id(Prefix.WEBHOOK_EVENT)
        body = event_body(event_id, event_type, object_id, unix_seconds(self._repository.now()))
        for endpoint_id in endpoint_ids:
            self._repository.add_delivery(
                WebhookDelivery(
                    id=new_id(Prefix.WEBHOOK_DELIVERY),
                    endpoint_id=endpoint_id,
                    team_id=team_id,
                    event_id=event_id,
                    event_type=event_type.value,
                    body=body,
                )
            )


def event_body(event_id: str, event_type: EventType, object_id: str, created_at: int) -> str:
    """OpenAI's event: it names the object and says no more; whoever gets it asks the service. Unix seconds."""
    event = {
        "id": event_id,
        "object": "event",
        "created_at": created_at,
        "type": event_type.value,
        "data": {"id": object_id},
    }
    return json.dumps(event, separators=(",", ":"))
