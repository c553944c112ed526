"""From a job's end to the receiver: once for each endpoint, again after a failure, never two at once."""

import json
import threading
from datetime import timedelta

import openai
import pytest
from sqlalchemy import func, select, update

from app.context import open_context
from app.contracts.errors import WorkerError
from app.db.tables import WebhookDelivery, WebhookEndpoint
from app.webhooks.event_types import EventType
from app.webhooks.retries import MAX_ATTEMPTS
from app.webhooks.sending import Outcome
from tests.support.job_world import clients_world
from tests.support.webhook_receiver import receiving
from workers.supervisor.deliver import DeliveryRounds

PATH = "/v1/webhook_endpoints"


@pytest.fixture
def receiver():
    with receiving() as found:
        yield found


@pytest.fixture
def context(settings):
    """An operator who lets webhooks go to loopback."""
    context = open_context(settings.model_copy(update={"webhook_allowed_hosts": "127.0.0.1"}))
    yield context
    context.close()


@pytest.fixture
def world(services, api_key):
    return clients_world(services, api_key)


@pytest.fixture
def listen(client, receiver):
    """Make an endpoint at the receiver."""

    def make(*event_types, url=None):
        body = {"name": "n", "url": url or receiver.url, "event_types": [str(kind) for kind in event_types]}
        answer = client.post(PATH, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    return make


@pytest.fixture
def send(context):
    def run():
        DeliveryRounds(context, threading.Event()).run()

    return run


@pytest.fixture
def make_due(context):
    """Let the time until the next attempt pass."""

    def run():
        with context.database.unit_of_work() as work:
            now = func.clock_timestamp()
            work.session.execute(update(WebhookDelivery).values(next_attempt_at=now))

    return run


def deliveries(client, endpoint):
    return client.get(f"{PATH}/{endpoint['id']}/deliveries").json()["data"]


def fail(world, job_id, fence):
    error = WorkerError(kind="fatal", code="engine_bug", message="It broke.")
    with world.services() as s:
        s.job_worker.fail(job_id, fence, error)


def test_a_jobs_end_reaches_the_receiver_and_the_official_client_believes_it(world, listen, send, receiver, client):
    endpoint = listen(EventType.JOB_FAILED, EventType.JOB_SUCCEEDED)
    task = world.running()
    fail(world, task.job_id, task.fence)
    send()
    [got] = receiver.received
    with openai.OpenAI(api_key="unused", base_url="http://localhost/v1") as official:
        event = official.webhooks.unwrap(got.body, got.headers, secret=endpoint["signing_secret"])
    assert (event.type, event.data.id) == ("fine_tuning.job.failed", task.job_id)
    [row] = deliveries(client, endpoint)
    assert (row["status"], row["attempts"], row["outcomes"][0]["status_code"]) == ("delivered", 1, 204)
    assert row["event_id"] == got.headers["webhook-id"] == event.id
    send()
    assert len(receiver.received) == 1


def test_each_end_and_a_pause_have_their_event_and_only_who_asked_hears_it(world, listen, send, receiver, client):
    listen(EventType.JOB_CANCELLED, EventType.JOB_PAUSED, url=f"{receiver.url}/a")
    listen(EventType.JOB_PAUSED, url=f"{receiver.url}/b")
    listen(EventType.EVAL_RUN_FAILED, url=f"{receiver.url}/c")
    job_id = world.queued()
    with world.services() as s:
        s.jobs.pause(world.team, job_id)
    with world.services() as s:
        s.jobs.pause(world.team, job_id)
    with world.services() as s:
        s.jobs.cancel(world.team, job_id)
    send()
    heard = sorted((got.path, json.loads(got.body)["type"]) for got in receiver.received)
    assert heard == [
        ("/hook/a", "fine_tuning.job.cancelled"),
        ("/hook/a", "fine_tuning.job.paused"),
        ("/hook/b", "fine_tuning.job.paused"),
    ]


def test_an_event_of_another_team_is_not_heard(world, listen, send, receiver):
    listen(EventType.JOB_CANCELLED)
    stranger = world.add_team("stranger")
    job_id = world.submit(stranger)
    with world.services() as s:
        s.jobs.cancel(stranger, job_id)
    send()
    assert receiver.received == []


def test_what_is_rolled_back_is_never_told(world, listen, send, receiver):
    listen(EventType.JOB_CANCELLED)
    job_id = world.submit()

    def cancel_and_break():
        with world.services() as s:
            s.jobs.cancel(world.team, job_id)
            raise RuntimeError("the process ends before its commit")

    with pytest.raises(RuntimeError, match="before its commit"):
        cancel_and_break()
    send()
    assert receiver.received == []


def test_a_failure_is_tried_again_later_with_the_same_id_until_it_is_given_up(  # noqa: PLR0917 - fixtures
    world, listen, send, receiver, client, make_due
):
    endpoint = listen(EventType.JOB_CANCELLED)
    receiver.statuses = [500]
    with world.services() as s:
        s.jobs.cancel(world.team, world.submit())
    send()
    send()
    assert len(receiver.received) == 1, "the next attempt is not due yet"
    for _ in range(MAX_ATTEMPTS + 2):
        make_due()
        send()
    assert len(receiver.received) == MAX_ATTEMPTS
    assert len({got.headers["webhook-id"] for got in receiver.received}) == 1
    assert len({got.body for got in receiver.received}) == 1
    [row] = deliveries(client, endpoint)
    assert (row["status"], row["attempts"], row["next_attempt_at"]) == ("failed", MAX_ATTEMPTS, None)
    assert {outcome["status_code"] for outcome in row["outcomes"]} == {500}
    receiver.statuses = [200]
    again = client.post(f"{PATH}/{endpoint['id']}/deliveries/{row['id']}/redeliver").json()
    assert (again["status"], again["attempts"]) == ("pending", 0)
    send()
    assert receiver.received[-1].headers["webhook-id"] == row["event_id"]
    assert deliveries(client, endpoint)[0]["status"] == "delivered"
    assert client.get(f"{PATH}/{endpoint['id']}").json()["failing_since"] is None


def test_a_delivered_event_can_be_sent_again(world, listen, send, receiver, client):
    endpoint = listen(EventType.JOB_CANCELLED)
    with world.services() as s:
        s.jobs.cancel(world.team, world.submit())
    send()
    [row] = deliveries(client, endpoint)
    client.post(f"{PATH}/{endpoint['id']}/deliveries/{row['id']}/redeliver")
    send()
    assert len(receiver.received) == 2
    assert len({got.headers["webhook-id"] for got in receiver.received}) == 1


def test_several_control_workers_never_make_the_same_attempt(world, listen, receiver, context):
    listen(EventType.JOB_CANCELLED)
    count = 40
    for _ in range(count):
        with world.services() as s:
            s.outbox.announce(world.team.team_id, EventType.JOB_CANCELLED, "ftjob-1")
    workers = [threading.Thread(target=DeliveryRounds(context, threading.Event()).run) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    ids = [got.headers["webhook-id"] for got in receiver.received]
    assert len(ids) == len(set(ids)) == count


def test_an_attempt_whose_worker_died_is_made_again_and_the_late_one_writes_nothing(world, listen, services, context):
    listen(EventType.JOB_CANCELLED)
    with world.services() as s:
        s.outbox.announce(world.team.team_id, EventType.JOB_CANCELLED, "ftjob-1")
    with services() as s:
        [lost] = s.deliveries.claim(8)
    with services() as s:
        assert s.deliveries.claim(8) == []
        row = s.work.session.get_one(WebhookDelivery, lost.delivery_id)
        row.claimed_until -= timedelta(minutes=5)
    with services() as s:
        [second] = s.deliveries.claim(8)
    assert second.fence == lost.fence + 1
    with services() as s:
        assert s.deliveries.record(lost, Outcome(500, None, 0.1)) is False
    with services() as s:
        assert s.deliveries.record(second, Outcome(200, None, 0.1)) is True
        assert s.deliveries.record(second, Outcome(500, None, 0.1)) is False
    with services() as s:
        row = s.work.session.get_one(WebhookDelivery, lost.delivery_id)
        assert (row.status, len(row.outcomes)) == ("delivered", 1)


def test_an_endpoint_that_fails_for_days_is_disabled_and_the_others_hear_of_it(  # noqa: PLR0917 - fixtures
    world, listen, send, receiver, client, make_due, context
):
    bad = listen(EventType.JOB_CANCELLED)
    listen(EventType.ENDPOINT_DISABLED, url=f"{receiver.url}/watch")
    receiver.statuses = [503]
    with world.services() as s:
        s.jobs.cancel(world.team, world.submit())
    send()
    assert client.get(f"{PATH}/{bad['id']}").json()["enabled"]
    with context.database.unit_of_work() as work:
        row = work.session.get_one(WebhookEndpoint, bad["id"])
        row.failing_since -= timedelta(days=context.settings.webhook_disable_after_days)
    make_due()
    send()
    found = client.get(f"{PATH}/{bad['id']}").json()
    assert not found["enabled"]
    assert "5 days" in found["disabled_reason"]
    receiver.statuses = [200]
    make_due()
    receiver.received.clear()
    send()
    told = [(got.path, json.loads(got.body)["data"]["id"]) for got in receiver.received]
    assert told == [("/hook/watch", bad["id"])]
    [waiting] = deliveries(client, bad)
    refused = client.post(f"{PATH}/{bad['id']}/deliveries/{waiting['id']}/redeliver")
    assert refused.json()["error"]["code"] == "webhook_endpoint_disabled"
    assert client.post(f"{PATH}/{bad['id']}", json={"enabled": True}).json()["enabled"]
    send()
    assert [row["status"] for row in deliveries(client, bad)] == ["delivered"]
    assert "webhook_endpoint.disable" in world.audited(bad["id"])


def test_410_gone_disables_at_once(world, listen, send, receiver, client):
    endpoint = listen(EventType.JOB_CANCELLED)
    receiver.statuses = [410]
    with world.services() as s:
        s.jobs.cancel(world.team, world.submit())
    send()
    assert "410" in client.get(f"{PATH}/{endpoint['id']}").json()["disabled_reason"]


def test_a_rotated_secret_signs_beside_the_old_one_for_a_day(world, listen, send, receiver, client):
    endpoint = listen(EventType.JOB_CANCELLED)
    path = f"{PATH}/{endpoint['id']}/rotate_secret"
    new = client.post(path, json={"keep_old_secret_active_for_24_hours": True}).json()["signing_secret"]
    with world.services() as s:
        s.jobs.cancel(world.team, world.submit())
    send()
    client.post(path)
    with world.services() as s:
        s.jobs.cancel(world.team, world.submit())
    send()
    with openai.OpenAI(api_key="unused", base_url="http://localhost/v1") as official:
        both, alone = receiver.received
        for secret in (endpoint["signing_secret"], new):
            official.webhooks.unwrap(both.body, both.headers, secret=secret)
            with pytest.raises(openai.InvalidWebhookSignatureError):
                official.webhooks.unwrap(alone.body, alone.headers, secret=secret)


def test_a_sample_event_is_sent_at_once_and_its_status_told(listen, receiver, client):
    endpoint = listen(EventType.JOB_SUCCEEDED)
    receiver.statuses = [418]
    answer = client.post(f"{PATH}/{endpoint['id']}/test", json={"event_type": "eval.run.failed"})
    assert answer.json() == {
        "object": "webhook_endpoint.test",
        "webhook_endpoint_id": endpoint["id"],
        "event_type": "eval.run.failed",
        "status_code": 418,
        "success": True,
    }
    assert json.loads(receiver.received[0].body)["type"] == "eval.run.failed"
    assert deliveries(client, endpoint) == []


def test_a_sample_event_that_cannot_be_delivered_says_why(listen, client):
    endpoint = listen(EventType.JOB_SUCCEEDED, url="http://127.0.0.1:1/")
    answer = client.post(f"{PATH}/{endpoint['id']}/test", json={"event_type": "eval.run.failed"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "webhook_not_delivered")
    assert "No connection" in answer.json()["error"]["message"]


def test_deleting_an_endpoint_while_a_job_ends_breaks_neither(world, listen, context, services):
    """The job's transaction holds the endpoint it writes to; the deletion waits for it and takes the delivery along."""
    endpoint = listen(EventType.JOB_CANCELLED)
    job_id = world.submit()
    done = threading.Event()

    def delete():
        with services() as s:
            s.webhooks.delete(world.team, endpoint["id"])
        done.set()

    with services() as s:
        s.jobs.cancel(world.team, job_id)
        thread = threading.Thread(target=delete)
        thread.start()
        assert not done.wait(0.2)
    thread.join(10)
    assert done.is_set()
    assert world.job(job_id).status == "cancelled"
    with services() as s:
        assert s.work.session.scalars(select(WebhookDelivery)).all() == []


def test_the_sweep_forgets_deliveries_that_are_over_and_old(world, listen, send, services, context):
    listen(EventType.JOB_CANCELLED)
    for _ in range(2):
        with world.services() as s:
            s.jobs.cancel(world.team, world.submit())
    send()
    with services() as s:
        s.work.session.execute(update(WebhookDelivery).values(created_at=func.clock_timestamp() - timedelta(days=31)))
        first = s.work.session.scalars(select(WebhookDelivery)).first()
        first.status = "pending"
    with services() as s:
        assert s.webhooks.forget_old() == 1
