"""The audit log: what was done is written with it, and read by admins of the same team only."""

import pytest

from app.identity.policy import Role


def test_every_verb_leaves_an_event_with_actor_and_object(client):
    upload = client.post("/v1/uploads", json={"bytes": 0, "filename": "f", "mime_type": "t", "purpose": "batch"}).json()
    client.post(f"/v1/uploads/{upload['id']}/cancel")
    events = client.get("/v1/audit").json()["data"]
    assert [event["action"] for event in events[:2]] == ["upload.cancel", "upload.create"]
    assert {event["object_id"] for event in events[:2]} == {upload["id"]}
    assert {event["actor"] for event in events[:2]} == {f"key:{client.get('/v1/teams/keys').json()['data'][0]['id']}"}


def test_an_event_goes_with_its_transaction(services):
    def fail():
        with services() as s:
            s.audit.record("team", "system", "thing.make", "x")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with services() as s:
        assert s.audit.page("team").rows == []


def test_events_are_paged_newest_first_and_filtered_by_object(client, services):
    with services() as s:
        team = s.identity.authenticate(client.headers["authorization"].removeprefix("Bearer ")).team_id
        for number in range(5):
            s.audit.record(team, "system", "thing.make", f"object-{number % 2}", number=number)
    first = client.get("/v1/audit", params={"limit": 2, "object_id": "object-0"}).json()
    assert [event["data"]["number"] for event in first["data"]] == [4, 2]
    assert first["has_more"]
    rest = client.get("/v1/audit", params={"after": first["last_id"], "object_id": "object-0"}).json()
    assert [event["data"]["number"] for event in rest["data"]] == [0]
    assert not rest["has_more"]


@pytest.mark.parametrize("after", ["after", "audit-", "audit-99999999999999999999999", "audit-٣", "-1"])
def test_an_unknown_cursor_gives_an_empty_page(client, after):
    answer = client.get("/v1/audit", params={"after": after})
    assert (answer.status_code, answer.json()["data"]) == (200, [])


def test_another_teams_events_are_not_shown(client, services):
    with services() as s:
        other = s.identity.create_team("B", "b")
        _, key = s.identity.create_key(other.id, "k", Role.ADMIN)
    events = client.get("/v1/audit", headers={"Authorization": f"Bearer {key}"}).json()["data"]
    assert {event["action"] for event in events} == {"team.create", "key.create"}
    assert all(event["object_id"] != other.id for event in client.get("/v1/audit").json()["data"])
