"""The endpoints of a team, by OpenAI's own client and by hand."""

import openai
import pytest

from app.identity.policy import Role
from app.webhooks.event_types import EventType
from app.webhooks.service import MAX_ENDPOINTS

PATH = "/v1/webhook_endpoints"
BODY = {"name": "ci", "url": "https://hooks.example.com/t", "event_types": ["fine_tuning.job.succeeded"]}


@pytest.fixture
def endpoint(client):
    answer = client.post(PATH, json=BODY)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_the_official_client_goes_through_an_endpoints_whole_life(openai_client):
    made = openai_client.webhooks.create(**BODY)
    assert made.signing_secret.startswith("whsec_")
    assert made.signing_secret_hint.endswith(made.signing_secret[-4:])
    assert made.updated_at == made.created_at
    assert [row.id for row in openai_client.webhooks.list()] == [made.id]
    found = openai_client.webhooks.retrieve(made.id)
    assert not hasattr(found, "signing_secret")
    changed = openai_client.webhooks.update(made.id, name="other", event_types=["eval.run.failed"])
    assert (changed.name, changed.event_types, changed.url) == ("other", ["eval.run.failed"], BODY["url"])
    rotated = openai_client.webhooks.rotate_secret(made.id, keep_old_secret_active_for_24_hours=True)
    assert rotated.signing_secret != made.signing_secret
    assert openai_client.webhooks.delete(made.id).deleted
    with pytest.raises(openai.NotFoundError):
        openai_client.webhooks.retrieve(made.id)
    assert set(openai_client.webhooks.event_types.list().data) == {kind.value for kind in EventType}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"url": "http://hooks.example.com/"}, "invalid_webhook_url"),
        ({"url": "https://127.0.0.1/"}, "invalid_webhook_url"),
        ({"url": "https://user@hooks.example.com/"}, "invalid_webhook_url"),
        ({"event_types": ["batch.completed"]}, "unsupported_event_type"),
        ({"event_types": []}, None),
        ({"name": ""}, None),
    ],
)
def test_a_wrong_endpoint_is_refused_at_creation_and_at_update(client, endpoint, change, code):
    for path in (PATH, f"{PATH}/{endpoint['id']}"):
        answer = client.post(path, json={**BODY, **change})
        assert answer.status_code == 400
        if code is not None:
            assert answer.json()["error"]["code"] == code
            assert answer.json()["error"]["param"] in change
    assert client.get(f"{PATH}/{endpoint['id']}").json()["url"] == BODY["url"]


def test_an_unchanged_update_is_no_change(client, endpoint):
    again = client.post(f"{PATH}/{endpoint['id']}", json=BODY).json()
    assert again["updated_at"] == endpoint["updated_at"]
    actions = [row["action"] for row in client.get("/v1/audit").json()["data"]]
    assert "webhook_endpoint.update" not in actions
    assert "webhook_endpoint.create" in actions


def test_a_team_has_so_many_endpoints_and_no_more(client, endpoint):
    for _ in range(MAX_ENDPOINTS - 1):
        assert client.post(PATH, json=BODY).status_code == 200
    answer = client.post(PATH, json=BODY)
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "too_many_webhook_endpoints")


def test_a_secret_is_not_kept_for_a_repeated_request(client):
    headers = {"Idempotency-Key": "once"}
    assert client.post(PATH, json=BODY, headers=headers).status_code == 200
    again = client.post(PATH, json=BODY, headers=headers)
    assert (again.status_code, again.json()["error"]["code"]) == (409, "idempotency_answer_not_kept")


def test_another_teams_endpoint_is_as_absent_as_one_that_never_was(client, services, endpoint):
    with services() as s:
        team = s.identity.create_team("Others", "others")
        _, key = s.identity.create_key(team.id, "k", Role.ADMIN)
    headers = {"Authorization": f"Bearer {key}"}
    for method, suffix in [
        ("GET", ""),
        ("POST", ""),
        ("DELETE", ""),
        ("POST", "/rotate_secret"),
        ("GET", "/deliveries"),
    ]:
        answers = []
        for endpoint_id in (endpoint["id"], "whe_none"):
            body = {} if method == "POST" else None
            answer = client.request(method, f"{PATH}/{endpoint_id}{suffix}", headers=headers, json=body)
            answers.append((answer.status_code, answer.text.replace(endpoint_id, "ID")))
        assert answers[0] == answers[1]
        assert answers[0][0] == 404
    assert client.get(PATH, headers=headers).json()["data"] == []
    assert client.get(f"{PATH}/{endpoint['id']}").status_code == 200


def test_a_trainer_may_not_even_look(client, services, endpoint):
    with services() as s:
        caller = s.identity.authenticate(client.headers["authorization"].removeprefix("Bearer "))
        _, key = s.identity.create_key(caller.team_id, "k", Role.TRAINER)
    assert client.get(PATH, headers={"Authorization": f"Bearer {key}"}).status_code == 403
