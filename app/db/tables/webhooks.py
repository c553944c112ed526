"""Where a team wants to be told of events, and what was sent there: the outbox of webhooks."""

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, Created


class WebhookEndpoint(Base):
    __tablename__ = "webhook_endpoints"
    __table_args__ = (Index("ix_webhook_endpoints_team_created", "team_id", "created_at", "id"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    team_id: Mapped[str] = mapped_column(ForeignKey("teams.id"))
    created_by: Mapped[str]
    name: Mapped[str]
    url: Mapped[str] = mapped_column(Text)
    event_types: Mapped[list[Any]]
    secret: Mapped[str] = mapped_column(doc="signs what is sent; shown once, at creation and rotation")
    old_secret: Mapped[str | None] = mapped_column(doc="signs too, until `old_secret_until`")
    old_secret_until: Mapped[datetime | None]
    failing_since: Mapped[datetime | None] = mapped_column(doc="of the first failure since the last success")
    disabled_at: Mapped[datetime | None]
    disabled_reason: Mapped[str | None]
    created_at: Mapped[Created]
    updated_at: Mapped[Created] = mapped_column(doc="of the last change of configuration or secret")


class WebhookHosts(Base):
    """A team without a row may send to every public host."""

    __tablename__ = "webhook_hosts"

    team_id: Mapped[str] = mapped_column(ForeignKey("teams.id"), primary_key=True)
    hosts: Mapped[list[Any] | None] = mapped_column(doc="set by the team's admins; NULL: no list")
    operator_hosts: Mapped[list[Any] | None] = mapped_column(doc="set by operators; NULL: no list")
    updated_at: Mapped[Created]


class WebhookDelivery(Base):
    """Inserted in the transaction of what it tells of. An attempt is owned by the fence that its claim set."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        UniqueConstraint("endpoint_id", "event_id"),
        Index("ix_webhook_deliveries_endpoint_created", "endpoint_id", "created_at", "id"),
        Index("ix_webhook_deliveries_due", "next_attempt_at", postgresql_where=text("status = 'pending'")),
        CheckConstraint("status IN ('pending', 'delivered', 'failed')", name="status"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    endpoint_id: Mapped[str] = mapped_column(ForeignKey("webhook_endpoints.id", ondelete="CASCADE"))
    team_id: Mapped[str] = mapped_column(ForeignKey("teams.id"))
    event_id: Mapped[str] = mapped_column(doc="the header webhook-id, the same at every attempt")
    event_type: Mapped[str]
    body: Mapped[str] = mapped_column(Text, doc="the very text that is signed and sent")
    status: Mapped[str] = mapped_column(server_default="pending")
    attempts: Mapped[int] = mapped_column(server_default="0", doc="begun; of this round of tries")
    fence: Mapped[int] = mapped_column(server_default="0", doc="only grows, with each attempt begun")
    next_attempt_at: Mapped[Created]
    claimed_until: Mapped[datetime | None] = mapped_column(doc="while an attempt is under way")
    outcomes: Mapped[list[Any]] = mapped_column(
        server_default=text("'[]'::jsonb"), doc="of the last attempts: at, status_code, fault, took_ms"
    )
    created_at: Mapped[Created] = mapped_column(index=True)
    delivered_at: Mapped[datetime | None]
