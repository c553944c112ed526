"""The verbs of a team's admin: where events go, what was sent there, and sending it again."""

from dataclasses import dataclass
from datetime import timedelta

from app.audit.service import AuditService
from app.clock import unix_seconds
from app.context import Context
from app.db.engine import UnitOfWork
from app.db.keyset import Page
from app.db.tables import WebhookDelivery, WebhookEndpoint
from app.errors import Conflict, InvalidInput, NotFound, QuotaExceeded
from app.identity.caller import Caller
from app.ids import Prefix, new_id
from app.webhooks.addresses import BadTarget, allowed_hosts, parse_target
from app.webhooks.allowlist import Allowlist
from app.webhooks.event_types import EventType
from app.webhooks.outbox import event_body
from app.webhooks.repository import WebhookRepository
from app.webhooks.schemas import EndpointCreate, EndpointUpdate
from app.webhooks.signing import make_secret, signed_headers

MAX_ENDPOINTS = 20
_OLD_SECRET_LIVES = timedelta(hours=24)
_KEEP_FOR = timedelta(days=30)


@dataclass(frozen=True)
class Message:
    """What is sent to one endpoint, ready and signed, and where its team's webhooks may go."""

    url: str
    body: bytes
    headers: dict[str, str]
    allowlist: Allowlist


class WebhookService:
    def __init__(self, work: UnitOfWork, context: Context, audit: AuditService) -> None:
        self._repository = WebhookRepository(work.session)
        self._settings = context.settings
        self._audit = audit

    def create(self, caller: Caller, body: EndpointCreate) -> WebhookEndpoint:
        """A new endpoint with its secret. `InvalidInput` says what is wrong with its URL or event types."""
        event_types = checked_event_types(body.event_types)
        self._check_url(caller, body.url)
        if self._repository.count(caller.team_id) >= MAX_ENDPOINTS:
            raise QuotaExceeded(
                f"Your team has {MAX_ENDPOINTS} webhook endpoints, which is the limit. Delete one first.",
                code="too_many_webhook_endpoints",
            )
        row = WebhookEndpoint(
            id=new_id(Prefix.WEBHOOK_ENDPOINT),
            team_id=caller.team_id,
            created_by=caller.actor,
            name=body.name,
            url=body.url,
            event_types=event_types,
            secret=make_secret(),
        )
        self._repository.add(row)
        self._audit.record(caller.team_id, caller.actor, "webhook_endpoint.create", row.id, url=row.url)
        return row

    def get(self, caller: Caller, endpoint_id: str) -> WebhookEndpoint:
        """`NotFound` for absent and foreign ones alike."""
        return _found(self._repository.find(caller.team_id, endpoint_id), endpoint_id)

    def page(self, caller: Caller, *, after: str | None, limit: int) -> Page[WebhookEndpoint]:
        """Newest first."""
        return self._repository.page(caller.team_id, after=after, limit=limit)

    def update(self, caller: Caller, endpoint_id: str, body: EndpointUpdate) -> WebhookEndpoint:
        """Change what is given. `enabled: true` sets an endpoint to work again, with what has waited meanwhile."""
        row = self._locked(caller, endpoint_id)
        changes: dict[str, object] = {}
        if body.url is not None and body.url != row.url:
            self._check_url(caller, body.url)
            changes["url"] = body.url
        if body.event_types is not None:
            event_types = checked_event_types(body.event_types)
            if event_types != row.event_types:
                changes["event_types"] = event_types
        if body.name is not None and body.name != row.name:
            changes["name"] = body.name
        if body.enabled is True and row.disabled_at is not None:
            changes |= {"disabled_at": None, "disabled_reason": None, "failing_since": None}
        if body.enabled is False and row.disabled_at is None:
            changes |= {"disabled_at": self._repository.now(), "disabled_reason": "Disabled by its team."}
        if not changes:
            return row
        for name, value in changes.items():
            setattr(row, name, value)
        row.updated_at = self._repository.now()
        self._audit.record(
            caller.team_id, caller.actor, "webhook_endpoint.update", row.id, changed=sorted(changes), url=row.url
        )
        return row

    def delete(self, caller: Caller, endpoint_id: str) -> None:
        """With its deliveries; what is under way may still arrive."""
        row = self._locked(caller, endpoint_id)
        self._repository.delete(row)
        self._audit.record(caller.team_id, caller.actor, "webhook_endpoint.delete", endpoint_id, url=row.url)

    def rotate_secret(self, caller: Caller, endpoint_id: str, *, keeps_old: bool) -> WebhookEndpoint:
        """A new secret; with `keeps_old` both sign for 24 hours."""
        row = self._locked(caller, endpoint_id)
        now = self._repository.now()
        row.old_secret = row.secret if keeps_old else None
        row.old_secret_until = now + _OLD_SECRET_LIVES if keeps_old else None
        row.secret = make_secret()
        row.updated_at = now
        self._audit.record(
            caller.team_id, caller.actor, "webhook_endpoint.rotate_secret", row.id, keeps_old_for_a_day=keeps_old
        )
        return row

    def sample(self, caller: Caller, endpoint_id: str, event_type: str) -> Message:
        """A signed event about nothing, to be sent with no transaction open."""
        row = self.get(caller, endpoint_id)
        kind = EventType(checked_event_types([event_type])[0])
        event_id = new_id(Prefix.WEBHOOK_EVENT)
        now = unix_seconds(self._repository.now())
        return self.message(row, event_id, event_body(event_id, kind, "sample", now))

    def message(self, endpoint: WebhookEndpoint, event_id: str, body: str) -> Message:
        """Signed as of now by the database's clock."""
        now = self._repository.now()
        secret_texts = [endpoint.secret]
        if endpoint.old_secret and endpoint.old_secret_until and endpoint.old_secret_until > now:
            secret_texts.append(endpoint.old_secret)
        data = body.encode()
        headers = signed_headers(event_id, unix_seconds(now), data, secret_texts)
        return Message(endpoint.url, data, headers, self._repository.allowlist(endpoint.team_id))

    def deliveries(
        self, caller: Caller, endpoint_id: str, *, status: str | None, after: str | None, limit: int
    ) -> Page[WebhookDelivery]:
        """Newest first; kept for 30 days."""
        endpoint = self.get(caller, endpoint_id)
        return self._repository.deliveries(endpoint.id, status=status, after=after, limit=limit)

    def delivery(self, caller: Caller, endpoint_id: str, delivery_id: str) -> WebhookDelivery:
        return _found_delivery(
            self._repository.find_delivery(self.get(caller, endpoint_id).id, delivery_id), delivery_id
        )

    def redeliver(self, caller: Caller, endpoint_id: str, delivery_id: str) -> WebhookDelivery:
        """Send it again, soon, with the same webhook-id. `Conflict` while the endpoint is disabled."""
        endpoint = self._locked(caller, endpoint_id)
        row = _found_delivery(self._repository.lock_delivery(endpoint.id, delivery_id), delivery_id)
        if endpoint.disabled_at is not None:
            raise Conflict(
                f"The webhook endpoint {endpoint.id} is disabled. Enable it first: update it with enabled true.",
                code="webhook_endpoint_disabled",
            )
        now = self._repository.now()
        row.next_attempt_at = now
        if row.status != "pending":
            row.status = "pending"
            row.attempts = 0
            row.claimed_until = None
        self._audit.record(caller.team_id, caller.actor, "webhook_delivery.redeliver", row.id, endpoint_id=endpoint.id)
        return row

    def forget_old(self) -> int:
        """Remove deliveries that are over since 30 days (control role); how many."""
        return self._repository.forget_old(_KEEP_FOR)

    def _check_url(self, caller: Caller, url: str) -> None:
        try:
            target = parse_target(url, allowed_hosts(self._settings.webhook_allowed_hosts))
            self._repository.allowlist(caller.team_id).check(target)
        except BadTarget as error:
            raise InvalidInput(
                f"The URL cannot receive webhooks: {error}.", param="url", code="invalid_webhook_url"
            ) from None

    def _locked(self, caller: Caller, endpoint_id: str) -> WebhookEndpoint:
        return _found(self._repository.lock(caller.team_id, endpoint_id), endpoint_id)


def checked_event_types(names: list[str]) -> list[str]:
    """Without repetitions, in our order. `InvalidInput` names the first that is never sent here."""
    served = [event_type.value for event_type in EventType]
    for name in names:
        if name not in served:
            raise InvalidInput(
                f"The event type '{name}' is not sent by this server. It sends: {', '.join(served)}.",
                param="event_types",
                code="unsupported_event_type",
            )
    return [name for name in served if name in names]


def _found(row: WebhookEndpoint | None, endpoint_id: str) -> WebhookEndpoint:
    if row is None:
        raise NotFound(
            f"There is no webhook endpoint '{endpoint_id}' in your team.",
            param="webhook_endpoint_id",
            code="webhook_endpoint_not_found",
        )
    return row


def _found_delivery(row: WebhookDelivery | None, delivery_id: str) -> WebhookDelivery:
    if row is None:
        raise NotFound(
            f"There is no delivery '{delivery_id}' at this webhook endpoint. Deliveries are kept for 30 days.",
            param="delivery_id",
            code="webhook_delivery_not_found",
        )
    return row
