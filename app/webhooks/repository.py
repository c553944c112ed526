"""All SQL of webhooks."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import cast

from sqlalchemy import ColumnElement, CursorResult, delete, func, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.db.keyset import Page, fetch_page
from app.db.tables import WebhookDelivery, WebhookEndpoint, WebhookHosts
from app.webhooks.allowlist import EVERYWHERE, Allowlist

_SWEEP_ROWS = 1000


class WebhookRepository:
    def __init__(self, session: Session) -> None:
        self._session = session

    # Endpoints.

    def add(self, row: WebhookEndpoint) -> None:
        self._session.add(row)
        self._session.flush()
        # What the database's clock wrote.
        self._session.refresh(row)

    def count(self, team_id: str) -> int:
        query = select(func.count()).select_from(WebhookEndpoint).where(WebhookEndpoint.team_id == team_id)
        return self._session.scalar(query) or 0

    def find(self, team_id: str, endpoint_id: str) -> WebhookEndpoint | None:
        query = select(WebhookEndpoint).where(WebhookEndpoint.id == endpoint_id, WebhookEndpoint.team_id == team_id)
        return self._session.scalar(query)

    def lock(self, team_id: str, endpoint_id: str) -> WebhookEndpoint | None:
        query = select(WebhookEndpoint).where(WebhookEndpoint.id == endpoint_id, WebhookEndpoint.team_id == team_id)
        return self._session.scalar(query.with_for_update().execution_options(populate_existing=True))

    def page(self, team_id: str, *, after: str | None, limit: int) -> Page[WebhookEndpoint]:
        return fetch_page(
            self._session,
            WebhookEndpoint,
            order_by=[WebhookEndpoint.created_at, WebhookEndpoint.id],
            identity=WebhookEndpoint.id,
            scope=[WebhookEndpoint.team_id == team_id],
            after=after,
            limit=limit,
        )

    def delete(self, row: WebhookEndpoint) -> None:
        self._session.delete(row)
        self._session.flush()

    def now(self) -> datetime:
        """The database's clock."""
        now: datetime = self._session.execute(select(func.clock_timestamp())).scalar_one()
        return now

    # Where they may go.

    def allowlist(self, team_id: str) -> Allowlist:
        query = select(WebhookHosts.hosts, WebhookHosts.operator_hosts).where(WebhookHosts.team_id == team_id)
        row = self._session.execute(query).one_or_none()
        return EVERYWHERE if row is None else Allowlist(row[0], row[1])

    def save_allowlist(self, team_id: str, changes: Mapping[str, Sequence[str] | None]) -> None:
        values = {**changes, "updated_at": func.clock_timestamp()}
        self._session.execute(
            insert(WebhookHosts)
            .values(team_id=team_id, **values)
            .on_conflict_do_update(index_elements=["team_id"], set_=values)
        )

    # The outbox.

    def hold_listening(self, team_id: str, event_type: str) -> Sequence[str]:
        """Ids of the endpoints that want this event, which nobody can delete before this transaction ends."""
        query = (
            select(WebhookEndpoint.id)
            .where(
                WebhookEndpoint.team_id == team_id,
                WebhookEndpoint.disabled_at.is_(None),
                WebhookEndpoint.event_types.contains([event_type]),
            )
            .order_by(WebhookEndpoint.id)
            .with_for_update(key_share=True, read=True)
        )
        return self._session.scalars(query).all()

    def add_delivery(self, row: WebhookDelivery) -> None:
        self._session.add(row)
        self._session.flush()

    def find_delivery(self, endpoint_id: str, delivery_id: str) -> WebhookDelivery | None:
        return self._session.scalar(select(WebhookDelivery).where(*_is(endpoint_id, delivery_id)))

    def lock_delivery(self, endpoint_id: str, delivery_id: str) -> WebhookDelivery | None:
        query = select(WebhookDelivery).where(*_is(endpoint_id, delivery_id)).with_for_update()
        return self._session.scalar(query.execution_options(populate_existing=True))

    def deliveries(
        self, endpoint_id: str, *, status: str | None, after: str | None, limit: int
    ) -> Page[WebhookDelivery]:
        return fetch_page(
            self._session,
            WebhookDelivery,
            order_by=[WebhookDelivery.created_at, WebhookDelivery.id],
            identity=WebhookDelivery.id,
            scope=[WebhookDelivery.endpoint_id == endpoint_id],
            where=[] if status is None else [WebhookDelivery.status == status],
            after=after,
            limit=limit,
        )

    # Attempts.

    def claim_due(self, limit: int, *, for_seconds: float) -> list[tuple[WebhookDelivery, WebhookEndpoint]]:
        """Begin an attempt at what is due, oldest first. Several at once share the work, none twice."""
        now = func.clock_timestamp()
        query = (
            select(WebhookDelivery, WebhookEndpoint)
            .join(WebhookEndpoint, WebhookEndpoint.id == WebhookDelivery.endpoint_id)
            .where(
                WebhookDelivery.status == "pending",
                WebhookDelivery.next_attempt_at <= now,
                or_(WebhookDelivery.claimed_until.is_(None), WebhookDelivery.claimed_until < now),
                WebhookEndpoint.disabled_at.is_(None),
            )
            .order_by(WebhookDelivery.next_attempt_at)
            .limit(limit)
            .with_for_update(skip_locked=True, of=WebhookDelivery)
        )
        rows = [(delivery, endpoint) for delivery, endpoint in self._session.execute(query)]
        until = self.now() + timedelta(seconds=for_seconds)
        for delivery, _ in rows:
            delivery.attempts += 1
            delivery.fence += 1
            delivery.claimed_until = until
        self._session.flush()
        return rows

    def lock_attempt(self, delivery_id: str, fence: int) -> tuple[WebhookDelivery, WebhookEndpoint] | None:
        """The delivery and its endpoint, locked, if this attempt is still the last one begun; None if not."""
        endpoint = self._session.scalar(
            select(WebhookEndpoint)
            .join(WebhookDelivery, WebhookDelivery.endpoint_id == WebhookEndpoint.id)
            .where(WebhookDelivery.id == delivery_id)
            .with_for_update(key_share=True, of=WebhookEndpoint)
            .execution_options(populate_existing=True)
        )
        delivery = self._session.scalar(
            select(WebhookDelivery)
            .where(
                WebhookDelivery.id == delivery_id,
                WebhookDelivery.fence == fence,
                WebhookDelivery.status == "pending",
                WebhookDelivery.claimed_until.is_not(None),
            )
            .with_for_update()
            .execution_options(populate_existing=True)
        )
        return None if endpoint is None or delivery is None else (delivery, endpoint)

    def forget_old(self, keep_for: timedelta) -> int:
        """Remove deliveries that are over and older than this; how many."""
        old = (
            select(WebhookDelivery.id)
            .where(WebhookDelivery.status != "pending", WebhookDelivery.created_at < func.clock_timestamp() - keep_for)
            .limit(_SWEEP_ROWS)
        )
        result = self._session.execute(delete(WebhookDelivery).where(WebhookDelivery.id.in_(old)))
        return cast("CursorResult[tuple[()]]", result).rowcount


def _is(endpoint_id: str, delivery_id: str) -> tuple[ColumnElement[bool], ...]:
    return (WebhookDelivery.id == delivery_id, WebhookDelivery.endpoint_id == endpoint_id)
