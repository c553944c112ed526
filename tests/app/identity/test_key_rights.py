"""Keys: narrowed to some rights, used and noted, and never a way to more rights than one has."""

import threading

import pytest
from fastapi.testclient import TestClient

from app.context import open_context
from app.identity.policy import Role
from app.main import create_app


def bearer(key):
    return {"Authorization": f"Bearer {key}"}


def make(client, **body):
    answer = client.post("/v1/teams/keys", json={"name": "n", **body})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_narrowed_key_may_do_what_it_names_and_nothing_else(client):
    made = make(client, role="trainer", permissions=["files:read"])
    assert made["permissions"] == ["files:read"]
    assert client.get("/v1/files", headers=bearer(made["key"])).status_code == 200
    refused = client.get("/v1/fine_tuning/jobs", headers=bearer(made["key"]))
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "insufficient_permissions")
    assert "narrowed" in refused.json()["error"]["message"]


@pytest.mark.parametrize("permissions", [["team:write"], ["nonsense"], "files:read"])
def test_a_key_is_not_narrowed_to_what_its_role_does_not_have(client, permissions):
    answer = client.post("/v1/teams/keys", json={"name": "n", "role": "trainer", "permissions": permissions})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"].startswith("permissions")


def test_a_narrowed_key_makes_no_key_with_more_rights(client):
    headers = bearer(make(client, role="admin", permissions=["team:write", "files:read"])["key"])
    for body in ({"role": "admin"}, {"role": "viewer"}, {"role": "admin", "permissions": ["files:write"]}):
        answer = client.post("/v1/teams/keys", headers=headers, json={"name": "n", **body})
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "insufficient_permissions"), body
    body = {"name": "n", "role": "viewer", "permissions": ["files:read"]}
    assert client.post("/v1/teams/keys", headers=headers, json=body).status_code == 200


def test_a_narrowed_operator_sees_the_own_team_only(client, services):
    with services() as s:
        caller = s.identity.authenticate(client.headers["authorization"].removeprefix("Bearer "))
        other = s.identity.create_team("B", "b")
        _, key = s.identity.create_key(caller.team_id, "n", Role.OPERATOR, permissions=["team:write"])
    assert client.get(f"/v1/organization/projects/{other.id}").status_code == 200
    assert client.get(f"/v1/organization/projects/{other.id}", headers=bearer(key)).status_code == 404


def test_the_use_of_a_key_is_noted_once_a_minute(client, context, services):
    made = make(client)
    assert made["last_used_at"] is None

    def last_used():
        row = next(row for row in client.get("/v1/teams/keys").json()["data"] if row["id"] == made["id"])
        return row["last_used_at"]

    client.get("/v1/files", headers=bearer(made["key"]))
    first = last_used()
    assert first is not None
    with services() as s:
        s.identity._repository.touch_key(made["id"])
    client.get("/v1/files", headers=bearer(made["key"]))
    assert last_used() == first


def test_a_revoked_key_is_refused_at_once_by_another_process_of_the_api(settings, client, monkeypatch):
    """Nothing is kept: neither on a connection that used the key before, nor in another pool."""
    made = make(client, role="viewer")
    context = open_context(settings)
    with TestClient(create_app(context, closes_context=True)) as other:
        assert other.get("/v1/files", headers=bearer(made["key"])).status_code == 200
        client.delete(f"/v1/teams/keys/{made['id']}")
        assert other.get("/v1/files", headers=bearer(made["key"])).status_code == 401


def test_a_key_is_revoked_while_a_request_with_it_is_under_way(services, context):
    """Who revokes does not wait for a long request; the note of its use is written at the end only."""
    with services() as s:
        team = s.identity.create_team("A", "a")
        row, key = s.identity.create_key(team.id, "k", Role.VIEWER)
    with services() as under_way:
        under_way.identity.authenticate(key)
        revoked = threading.Event()

        def revoke():
            with services() as s:
                caller = s.identity.authenticate(key)
                s.identity.revoke_key(caller, row.id)
            revoked.set()

        thread = threading.Thread(target=revoke)
        thread.start()
        assert revoked.wait(10)
        thread.join()
