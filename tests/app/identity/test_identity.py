"""Teams and keys: deny by default, at once, and the secret is nowhere."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from app.errors import Conflict, InvalidInput, Unauthorized
from app.identity.policy import Role


def bearer(key):
    return {"Authorization": f"Bearer {key}"}


def test_the_first_key_makes_the_default_team_once_and_works(services):
    with services() as s:
        first = s.identity.first_key()
    with services() as s:
        second = s.identity.first_key()
        callers = [s.identity.authenticate(first), s.identity.authenticate(second)]
    assert first != second
    assert {caller.team_slug for caller in callers} == {"default"}
    assert {caller.role for caller in callers} == {Role.OPERATOR}


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Basic abc", "Bearer nonsense", "Bearer tsk_nonsense", "Bearer ä"]
)
def test_a_request_without_a_valid_key_is_refused(client, header):
    answer = client.get("/v1/files", headers={"Authorization": header.encode("latin-1")})
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")


def test_a_refused_key_is_not_echoed(client, api_key):
    answer = client.get("/v1/files", headers=bearer(api_key[:-1] + ("y" if api_key.endswith("x") else "x")))
    assert answer.status_code == 401
    assert api_key[:20] not in answer.text


def test_a_revoked_key_stops_at_once(client):
    made = client.post("/v1/teams/keys", json={"name": "short-lived", "role": "viewer"}).json()
    assert client.get("/v1/files", headers=bearer(made["key"])).status_code == 200
    assert client.delete(f"/v1/teams/keys/{made['id']}").json()["deleted"]
    answer = client.get("/v1/files", headers=bearer(made["key"]))
    assert answer.status_code == 401
    assert "revoked" in answer.json()["error"]["message"]
    assert client.delete(f"/v1/teams/keys/{made['id']}").status_code == 200


def test_a_key_expires_by_the_clock(services):
    with services() as s:
        team = s.identity.create_team("A", "a")
        _, key = s.identity.create_key(team.id, "k", Role.VIEWER, expires_after=timedelta(seconds=60))
        assert s.identity.authenticate(key).team_id == team.id
        s.identity._clock = type("Later", (), {"now": lambda self: datetime.now(UTC) + timedelta(seconds=61)})()
        with pytest.raises(Unauthorized, match="expired"):
            s.identity.authenticate(key)


def test_the_text_of_a_key_is_shown_once_and_stored_nowhere(client, context):
    made = client.post("/v1/teams/keys", json={"name": "n"}, headers={"idempotency-key": "i"}).json()
    assert made["role"] == "trainer"
    assert "key" not in client.get("/v1/teams/keys").json()["data"][0]
    secret = made["key"][29:]
    with context.database.unit_of_work() as work:
        for table in ("api_keys", "audit_events", "idempotency_keys"):
            dump = work.session.execute(text(f"SELECT string_agg(t::text, ' ') FROM {table} t")).scalar_one()  # noqa: S608
            assert secret not in dump


def test_keys_of_another_team_cannot_be_seen_or_revoked(client, services):
    with services() as s:
        other = s.identity.create_team("B", "b")
        row, _ = s.identity.create_key(other.id, "theirs", Role.ADMIN)
    assert row.id not in client.get("/v1/teams/keys").text
    answer = client.delete(f"/v1/teams/keys/{row.id}")
    absent = client.delete("/v1/teams/keys/key_none")
    assert (answer.status_code, absent.status_code) == (404, 404)


def test_a_trainer_cannot_make_keys(client):
    trainer = client.post("/v1/teams/keys", json={"name": "t", "role": "trainer"}).json()["key"]
    assert client.post("/v1/teams/keys", json={"name": "x"}, headers=bearer(trainer)).status_code == 403


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": ""},
        {"name": "n", "role": "root"},
        {"name": "n", "role": "operator"},
        {"name": "n", "expires_after_seconds": True},
        {"name": "n", "expires_after_seconds": 10**30},
    ],
)
def test_a_key_that_cannot_be_is_refused(client, body):
    assert client.post("/v1/teams/keys", json=body).status_code == 400


def test_a_slug_is_unique_and_fits_into_model_names(services):
    with services() as s:
        s.identity.create_team("A", "a-1")
        with pytest.raises(Conflict):
            s.identity.create_team("B", "a-1")
        for slug in ("", "A", "a:b", "-a", "a" * 40, "ä"):
            with pytest.raises(InvalidInput):
                s.identity.create_team("C", slug)


def test_a_key_with_a_known_text_works_for_seeders(services):
    with services() as s:
        team = s.identity.create_team("A", "a")
        s.identity.create_key_with_known_text_for_tests(team.id, "suite", Role.ADMIN, "My API Key")
        assert s.identity.authenticate("My API Key").team_id == team.id
