"""Webhooks through real control processes: what one of them had in hand when it died arrives by another."""

import threading
from datetime import timedelta

import pytest
from sqlalchemy import select, update

from app.db.tables import WebhookDelivery
from app.webhooks.schemas import EndpointCreate
from tests.support.webhook_receiver import receiving


@pytest.fixture
def settings(settings):
    """An operator who lets webhooks go to loopback."""
    return settings.model_copy(update={"webhook_allowed_hosts": "127.0.0.1", "tick_seconds": 0.2})


@pytest.fixture
def receiver():
    with receiving() as found:
        yield found


def delivery(house):
    with house.services() as s:
        return s.work.session.scalars(select(WebhookDelivery)).one()


def test_an_event_in_the_hands_of_a_killed_control_process_arrives_by_the_next_one(house, receiver):
    with house.services() as s:
        body = EndpointCreate(name="n", url=receiver.url, event_types=["fine_tuning.job.cancelled"])
        s.webhooks.create(house.caller, body)
    receiver.hold = threading.Event()
    job_id = house.submit()
    with house.worker_process("control", "control0") as control:
        house.cancel(job_id)
        house.wait_until(lambda: len(receiver.received) == 1, "the first attempt")
        control.kill()
        control.wait()
    receiver.hold.set()
    assert (delivery(house).status, delivery(house).attempts) == ("pending", 1)
    with house.services() as s:
        # The claim runs out.
        past = WebhookDelivery.claimed_until - timedelta(minutes=5)
        s.work.session.execute(update(WebhookDelivery).values(claimed_until=past))
    with house.worker_process("control", "control1"), house.worker_process("control", "control2"):
        house.wait_until(lambda: delivery(house).status == "delivered", "the second attempt")
    assert len(receiver.received) == 2
    assert len({got.headers["webhook-id"] for got in receiver.received}) == 1
    assert delivery(house).attempts == 2
