"""Signatures that the official client, and any library of Standard Webhooks, verifies."""

import json
import time

import openai
import pytest

from app.webhooks.event_types import EventType
from app.webhooks.outbox import event_body
from app.webhooks.signing import make_secret, secret_hint, signed_headers

CLIENT = openai.OpenAI(api_key="unused", base_url="http://localhost/v1")


@pytest.fixture(scope="module", autouse=True)
def _closes():
    yield
    CLIENT.close()


def signed(secrets_, *, age_seconds=0, event_type=EventType.JOB_SUCCEEDED):
    body = event_body("evt_1", event_type, "ftjob-1", 1_700_000_000).encode()
    return body, signed_headers("evt_1", int(time.time()) - age_seconds, body, secrets_)


def test_the_specifications_own_example_has_its_signature():
    # From the reference implementations of Standard Webhooks.
    headers = signed_headers(
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
        ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
    )
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize(
    "event_type",
    [kind for kind in EventType if kind.value.startswith(("fine_tuning.job.s", "fine_tuning.job.f", "eval.run."))],
)
def test_the_official_client_unwraps_what_we_sign(event_type):
    secret = make_secret()
    body, headers = signed([secret], event_type=event_type)
    event = CLIENT.webhooks.unwrap(body, headers, secret=secret)
    assert (event.id, event.type, event.data.id) == ("evt_1", event_type.value, "ftjob-1")
    assert event.object == "event"


def test_an_event_that_only_we_have_unwraps_too():
    secret = make_secret()
    body, headers = signed([secret], event_type=EventType.BUDGET_WARNED)
    assert CLIENT.webhooks.unwrap(body, headers, secret=secret).type == "budget.warned"


def test_during_a_rotation_the_old_and_the_new_secret_both_verify():
    new, old = make_secret(), make_secret()
    body, headers = signed([new, old])
    assert len(headers["webhook-signature"].split()) == 2
    for secret in (new, old):
        CLIENT.webhooks.verify_signature(body, headers, secret=secret)


@pytest.mark.parametrize("fault", ["other secret", "body", "id", "timestamp", "age"])
def test_what_was_changed_or_is_old_does_not_verify(fault):
    secret = make_secret()
    body, headers = signed([secret], age_seconds=301 if fault == "age" else 0)
    if fault == "body":
        body = json.dumps({**json.loads(body), "type": "fine_tuning.job.failed"}).encode()
    if fault == "id":
        headers["webhook-id"] = "evt_2"
    if fault == "timestamp":
        headers["webhook-timestamp"] = str(int(headers["webhook-timestamp"]) + 1)
    with pytest.raises(openai.InvalidWebhookSignatureError):
        CLIENT.webhooks.unwrap(body, headers, secret=make_secret() if fault == "other secret" else secret)


def test_a_hint_does_not_help_a_stranger():
    secret = make_secret()
    assert secret.startswith("whsec_")
    assert secret_hint(secret) == f"whsec_…{secret[-4:]}"
    assert make_secret() != secret
