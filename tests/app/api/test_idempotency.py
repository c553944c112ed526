"""Idempotency-Key: one effect and one answer for one key, whatever happens between."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from app.db import idempotency
from app.db.tables import IdempotencyKey

UPLOAD = {"bytes": 0, "filename": "f", "mime_type": "text/plain", "purpose": "batch"}


def create(client, key="k", **changes):
    return client.post("/v1/uploads", json={**UPLOAD, **changes}, headers={"idempotency-key": key})


def rows(context):
    with context.database.unit_of_work() as work:
        return work.session.query(IdempotencyKey).all()


def test_the_same_request_again_gets_the_first_answer_byte_for_byte(client):
    first, second = create(client), create(client)
    assert second.content == first.content
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"


def test_another_body_with_the_same_key_is_a_conflict_that_is_not_retried(client):
    create(client)
    answer = create(client, filename="g")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "idempotency_key_reused")
    assert answer.headers["x-should-retry"] == "false"


def test_another_path_with_the_same_key_is_a_conflict(client):
    upload = create(client).json()["id"]
    assert client.post(f"/v1/uploads/{upload}/cancel", headers={"idempotency-key": "k"}).status_code == 409


def test_a_failed_request_leaves_the_key_free(client, context):
    assert create(client, purpose="nonsense").status_code == 400
    assert rows(context) == []
    assert create(client).status_code == 200


def test_two_teams_may_use_the_same_key(client, services):
    from app.identity.policy import Role  # noqa: PLC0415

    with services() as s:
        _, other = s.identity.create_key(s.identity.create_team("B", "b").id, "k", Role.ADMIN)
    mine = create(client)
    theirs = client.post(
        "/v1/uploads", json=UPLOAD, headers={"idempotency-key": "k", "Authorization": f"Bearer {other}"}
    )
    assert theirs.status_code == 200
    assert theirs.json()["id"] != mine.json()["id"]


def test_requests_at_the_same_time_have_one_effect(client, context):
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: create(client), range(8)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert sum("idempotency-replayed" in answer.headers for answer in answers) == 7


def test_a_request_that_waits_too_long_for_the_first_is_told_to_come_again(client, context, monkeypatch):
    monkeypatch.setattr(idempotency, "_WAIT_SECONDS", "0.2")
    team = client_team(client, context)
    work = context.database.open()
    idempotency.reserve(work.session, team, "k", "whatever")
    answer = create(client)
    work.close()
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "idempotency_key_in_use")
    assert answer.headers["x-should-retry"] == "true"


def client_team(client, context):
    with context.database.unit_of_work() as work:
        from app.db.tables import Team  # noqa: PLC0415

        return work.session.query(Team).one().id


def test_a_long_request_holds_its_key_without_holding_a_transaction(client, context):
    """An upload gives its connection back while bytes come; one that dies there frees its key."""
    team = client_team(client, context)
    with context.database.unit_of_work() as work:
        reservation = idempotency.reserve(work.session, team, "k", "whatever")
    assert create(client).status_code == 409  # another fingerprint
    with context.database.unit_of_work() as work, pytest.raises(idempotency.KeyInUse):
        idempotency.reserve(work.session, team, "k", "whatever")
    with context.database.unit_of_work() as work:
        idempotency.forget(work.session, reservation)
    assert create(client).status_code == 200


def test_an_answer_with_a_secret_is_not_kept(client, context):
    headers = {"idempotency-key": "k"}
    first = client.post("/v1/teams/keys", json={"name": "a"}, headers=headers)
    again = client.post("/v1/teams/keys", json={"name": "a"}, headers=headers)
    assert (again.status_code, again.json()["error"]["code"]) == (409, "idempotency_answer_not_kept")
    assert [row.response for row in rows(context)] == [None]
    assert first.json()["key"] not in again.text


@pytest.mark.parametrize("key", ["x" * 256, "ä", ""])
def test_a_key_that_is_no_key_is_refused(client, key):
    answer = client.post("/v1/uploads", json=UPLOAD, headers={"idempotency-key": key.encode("latin-1")})
    assert answer.status_code == 400


def test_the_same_file_under_the_same_key_is_one_file(client):
    def send(content):
        return client.post(
            "/v1/files", files={"file": ("a", content)}, data={"purpose": "batch"}, headers={"idempotency-key": "k"}
        )

    first, again, other = send(b"x"), send(b"x"), send(b"y")
    assert again.json() == first.json()
    assert again.headers["idempotency-replayed"] == "true"
    assert other.status_code == 409
    assert len(client.get("/v1/files").json()["data"]) == 1


def test_old_keys_are_forgotten(client, context):
    create(client)
    with context.database.unit_of_work() as work:
        assert idempotency.forget_old(work.session) == 0
        for row in work.session.query(IdempotencyKey):
            row.created_at -= idempotency.KEEP_FOR
    with context.database.unit_of_work() as work:
        assert idempotency.forget_old(work.session) == 1
