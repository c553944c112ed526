"""/v1/organization/audit_logs through the official client, its filters, and who may read whose chain."""

import psycopg
import pytest

from app.identity.policy import Role


@pytest.fixture
def other(services):
    """An admin of another team: headers and the team's id."""
    with services() as s:
        team = s.identity.create_team("B", "b")
        _, key = s.identity.create_key(team.id, "k", Role.ADMIN)
    return {"Authorization": f"Bearer {key}"}, team.id


def logs(client, **query):
    return client.get("/v1/organization/audit_logs", params=query).json()["data"]


def test_the_official_client_lists_events_of_all_teams_for_an_operator(openai_client, services, other):
    with openai_client.with_options(admin_api_key=openai_client.api_key) as admin:
        events = list(admin.admin.organization.audit_logs.list(limit=1, event_types=["api_key.created"]))
        assert {event.type for event in events} == {"api_key.created"}
        assert {event.project.id for event in events} > {other[1]}
        none = list(admin.admin.organization.audit_logs.list(effective_at={"lt": 1000}))
        assert none == []
        assert len(list(admin.admin.organization.audit_logs.list(project_ids=[other[1]]))) == 2


def test_events_are_filtered_by_actor_type_and_object(client):
    made = client.post("/v1/teams/keys", json={"name": "n"}).json()
    client.delete(f"/v1/teams/keys/{made['id']}")
    own = logs(client, **{"resource_ids[]": made["id"]})
    assert [event["type"] for event in own] == ["api_key.deleted", "api_key.created"]
    actor = own[0]["actor_id"]
    assert {event["actor_id"] for event in logs(client, **{"actor_ids[]": actor})} == {actor}
    assert logs(client, **{"actor_ids[]": "key_none"}) == []


def test_a_team_admin_reads_the_own_chain_only(client, other):
    headers, team = other
    own = client.get("/v1/organization/audit_logs", headers=headers).json()["data"]
    assert {event["project"]["id"] for event in own} == {team}
    mine = client.get("/v1/organization/audit_logs/head").json()["team"]
    for path in ("head", "rows", "verify"):
        answers = [
            client.get(f"/v1/organization/audit_logs/{path}", headers=headers, params={"project_id": project})
            for project in (mine, "team_none", "installation")
        ]
        assert {(answer.status_code, answer.json()["error"]["param"]) for answer in answers} == {(404, "project_id")}
    assert (
        client.get("/v1/organization/audit_logs", headers=headers, params={"project_ids[]": mine}).json()["data"] == []
    )
    assert client.get("/v1/organization/audit_logs/head", params={"project_id": team}).json()["sequence"] == 2


def test_a_broken_row_is_named_over_http_in_pieces(client, servers):
    for number in range(6):
        client.post("/v1/teams/keys", json={"name": f"key {number}"})
    path = "/v1/organization/audit_logs/verify"
    assert client.get(path).json()["is_unbroken"]
    with psycopg.connect(servers.database_url) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute("UPDATE audit_events SET actor = 'key:x' WHERE sequence = 5")
    first = client.get(path, params={"limit": 3}).json()
    assert (first["is_unbroken"], first["has_more"], first["head"]["sequence"]) == (True, True, 3)
    second = client.get(path, params={"limit": 3, "after": 3}).json()
    assert [(fault["sequence"], fault["kind"]) for fault in second["faults"]] == [(5, "changed")]
    assert client.get(path, params={"after": 99}).status_code == 400
