"""Wire shapes of webhooks: OpenAI's endpoints, then our deliveries."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.clock import unix_seconds
from app.db.tables import WebhookDelivery, WebhookEndpoint
from app.webhooks.addresses import MAX_URL_LENGTH
from app.webhooks.allowlist import HOST_PATTERN, Allowlist
from app.webhooks.signing import secret_hint

_Name = Annotated[str, Field(min_length=1, max_length=128)]
_Url = Annotated[str, Field(min_length=1, max_length=MAX_URL_LENGTH)]
_EventTypes = Annotated[list[Annotated[str, Field(max_length=64)]], Field(min_length=1, max_length=64)]

_Hosts = Annotated[list[Annotated[str, Field(pattern=HOST_PATTERN)]], Field(max_length=200)]


class _Body(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")


class EndpointCreate(_Body):
    name: _Name
    url: _Url
    event_types: _EventTypes


class EndpointUpdate(_Body):
    name: _Name | None = None
    url: _Url | None = None
    event_types: _EventTypes | None = None
    enabled: bool | None = Field(default=None, description="ours: false stops all sending until it is true again")


class SecretRotation(_Body):
    keep_old_secret_active_for_24_hours: bool = False


class EndpointTest(_Body):
    event_type: Annotated[str, Field(max_length=64)]


class HostsChange(BaseModel):
    """`hooks.example.com`, or `*.example.com` for all names below it; with `:port` that port only; null: no list."""

    model_config = ConfigDict(strict=True, extra="forbid")

    hosts: _Hosts | None = None
    operator_hosts: _Hosts | None = None


class HostsObject(BaseModel):
    """A host must be on both lists; null: no list, so every public host."""

    object: Literal["organization.project.webhook_hosts"] = "organization.project.webhook_hosts"
    project_id: str
    hosts: list[str] | None
    operator_hosts: list[str] | None


class EndpointObject(BaseModel):
    id: str
    object: Literal["webhook_endpoint"] = "webhook_endpoint"
    created_at: int
    updated_at: int
    name: str
    url: str
    event_types: list[str]
    signing_secret_hint: str
    # Ours.
    enabled: bool
    disabled_reason: str | None
    failing_since: int | None


class EndpointWithSecretObject(EndpointObject):
    """With the secret: at its creation and at each rotation, and never again."""

    signing_secret: str


class EndpointDeleted(BaseModel):
    id: str
    object: Literal["webhook_endpoint.deleted"] = "webhook_endpoint.deleted"
    deleted: bool = True


class EndpointTestResult(BaseModel):
    object: Literal["webhook_endpoint.test"] = "webhook_endpoint.test"
    webhook_endpoint_id: str
    event_type: str
    status_code: int
    success: Literal[True] = True


class EventTypeList(BaseModel):
    object: Literal["list"] = "list"
    data: list[str]


class OutcomeObject(BaseModel):
    """One attempt."""

    at: int
    status_code: int | None
    fault: str | None
    took_ms: int


class DeliveryObject(BaseModel):
    id: str
    object: Literal["webhook_delivery"] = "webhook_delivery"
    webhook_endpoint_id: str
    event_id: str = Field(description="the header webhook-id, the same at every attempt")
    event_type: str
    event: str = Field(description="the text that is sent")
    status: Literal["pending", "delivered", "failed"]
    attempts: int
    outcomes: list[OutcomeObject] = Field(description="of the last attempts, oldest first")
    next_attempt_at: int | None
    created_at: int
    delivered_at: int | None


def endpoint_object(row: WebhookEndpoint) -> EndpointObject:
    return EndpointObject(**_fields(row))


def endpoint_with_secret_object(row: WebhookEndpoint) -> EndpointWithSecretObject:
    return EndpointWithSecretObject(**_fields(row), signing_secret=row.secret)


def delivery_object(row: WebhookDelivery) -> DeliveryObject:
    return DeliveryObject.model_validate(
        {
            "id": row.id,
            "webhook_endpoint_id": row.endpoint_id,
            "event_id": row.event_id,
            "event_type": row.event_type,
            "event": row.body,
            "status": row.status,
            "attempts": row.attempts,
            "outcomes": row.outcomes,
            "next_attempt_at": unix_seconds(row.next_attempt_at) if row.status == "pending" else None,
            "created_at": unix_seconds(row.created_at),
            "delivered_at": _seconds(row.delivered_at),
        }
    )


def _fields(row: WebhookEndpoint) -> dict[str, Any]:
    return {
        "id": row.id,
        "created_at": unix_seconds(row.created_at),
        "updated_at": unix_seconds(row.updated_at),
        "name": row.name,
        "url": row.url,
        "event_types": row.event_types,
        "signing_secret_hint": secret_hint(row.secret),
        "enabled": row.disabled_at is None,
        "disabled_reason": row.disabled_reason,
        "failing_since": _seconds(row.failing_since),
    }


def _seconds(moment: datetime | None) -> int | None:
    return None if moment is None else unix_seconds(moment)


def hosts_object(project_id: str, found: Allowlist) -> HostsObject:
    def listed(entries: Sequence[str] | None) -> list[str] | None:
        return None if entries is None else list(entries)

    return HostsObject(project_id=project_id, hosts=listed(found.hosts), operator_hosts=listed(found.operator_hosts))
