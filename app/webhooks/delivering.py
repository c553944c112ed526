"""Attempts, as the control role makes them: claim, send with no transaction open, record. Each is one unit of work."""

from dataclasses import dataclass
from datetime import timedelta

from app.audit.service import AuditService
from app.context import Context
from app.db.engine import UnitOfWork
from app.db.tables import WebhookDelivery, WebhookEndpoint
from app.webhooks.event_types import EventType
from app.webhooks.outbox import Outbox
from app.webhooks.repository import WebhookRepository
from app.webhooks.retries import GONE, delay_seconds, is_delivered
from app.webhooks.sending import Outcome
from app.webhooks.service import Message, WebhookService

# Longer than a look-up of the name and a POST may take.
CLAIM_SECONDS = 60.0
_OUTCOMES_KEPT = 20


@dataclass(frozen=True)
class Attempt:
    """One try, owned by whoever claimed this fence."""

    delivery_id: str
    fence: int
    message: Message


class DeliveryService:
    def __init__(self, work: UnitOfWork, context: Context, webhooks: WebhookService, audit: AuditService) -> None:
        self._repository = WebhookRepository(work.session)
        self._outbox = Outbox(work.session)
        self._settings = context.settings
        self._webhooks = webhooks
        self._audit = audit

    def claim(self, limit: int) -> list[Attempt]:
        """Begin attempts at what is due. An attempt that is never recorded is made again after `CLAIM_SECONDS`."""
        return [
            Attempt(row.id, row.fence, self._webhooks.message(endpoint, row.event_id, row.body))
            for row, endpoint in self._repository.claim_due(limit, for_seconds=CLAIM_SECONDS)
        ]

    def record(self, attempt: Attempt, outcome: Outcome) -> bool:
        """Write what became of an attempt; False if it is no longer this one's to write (a later one has begun)."""
        found = self._repository.lock_attempt(attempt.delivery_id, attempt.fence)
        if found is None:
            return False
        row, endpoint = found
        now = self._repository.now()
        row.claimed_until = None
        told = {
            "at": int(now.timestamp()),
            "status_code": outcome.status_code,
            "fault": outcome.fault,
            "took_ms": round(1000 * outcome.took_seconds),
        }
        row.outcomes = [*row.outcomes, told][-_OUTCOMES_KEPT:]
        if outcome.status_code is not None and is_delivered(outcome.status_code):
            row.status, row.delivered_at = "delivered", now
            endpoint.failing_since = None
            return True
        delay = delay_seconds(row.attempts, row.id)
        if delay is None:
            row.status = "failed"
        else:
            row.next_attempt_at = now + timedelta(seconds=delay)
        self._count_failure(endpoint, row, outcome)
        return True

    def _count_failure(self, endpoint: WebhookEndpoint, row: WebhookDelivery, outcome: Outcome) -> None:
        """Remember since when the endpoint fails, and disable one that has failed for too long or is gone."""
        now = self._repository.now()
        if endpoint.failing_since is None:
            endpoint.failing_since = now
        if endpoint.disabled_at is not None:
            return
        days = self._settings.webhook_disable_after_days
        if outcome.status_code == GONE:
            row.status = "failed"
            reason = "It answered 410 Gone: it wants no more events."
        elif now - endpoint.failing_since >= timedelta(days=days):
            reason = f"Nothing could be delivered for {days:g} days."
        else:
            return
        endpoint.disabled_at, endpoint.disabled_reason = now, reason
        self._audit.record(endpoint.team_id, "system", "webhook_endpoint.disable", endpoint.id, reason=reason)
        self._outbox.announce(endpoint.team_id, EventType.ENDPOINT_DISABLED, endpoint.id)
