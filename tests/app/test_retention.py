"""The sweep of the control role: everything due goes, and one store that is away stops nothing else."""

from datetime import timedelta

from app.db.tables import IdempotencyKey
from app.retention import sweep


def test_everything_that_is_due_goes_at_once_and_only_once(client, context, monkeypatch):
    upload = {"bytes": 0, "filename": "f", "mime_type": "t", "purpose": "user_data"}
    client.post("/v1/uploads", json=upload, headers={"idempotency-key": "k"})
    file = client.post("/v1/files", files={"file": ("f", b"x")}, data={"purpose": "user_data"}).json()["id"]
    client.delete(f"/v1/files/{file}")
    with context.database.unit_of_work() as work:
        for row in work.session.query(IdempotencyKey):
            row.created_at -= timedelta(hours=25)
    assert sweep(context) == 2
    assert sweep(context) == 0


def test_a_store_that_is_away_stops_one_kind_only(client, context, monkeypatch, caplog):
    file = client.post("/v1/files", files={"file": ("f", b"x")}, data={"purpose": "user_data"}).json()["id"]
    client.delete(f"/v1/files/{file}")
    client.post("/v1/teams/keys", json={"name": "n"}, headers={"idempotency-key": "k"})
    with context.database.unit_of_work() as work:
        for row in work.session.query(IdempotencyKey):
            row.created_at -= timedelta(hours=25)

    def away(_, key):
        raise OSError("store away")

    with monkeypatch.context() as patch:
        patch.setattr(type(context.artifacts), "delete", away)
        assert sweep(context) == 1
    assert "the sweep of files stopped" in caplog.text
    assert sweep(context) == 1
