"""/v1/uploads: parts in any order, one file at the end, nothing left of those that are given up."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from app.db.tables import Upload, UploadPart


def create(client, total_bytes, **changes):
    body = {"bytes": total_bytes, "filename": "train.jsonl", "mime_type": "application/jsonl", "purpose": "user_data"}
    answer = client.post("/v1/uploads", json={**body, **changes})
    assert answer.status_code == 200, answer.text
    return answer.json()["id"]


def add(client, upload, data):
    return client.post(f"/v1/uploads/{upload}/parts", files={"data": ("part", data)})


def complete(client, upload, part_ids, **more):
    return client.post(f"/v1/uploads/{upload}/complete", json={"part_ids": part_ids, **more})


def test_the_official_clients_helper_uploads_in_chunks(openai_client, tmp_path):
    path = tmp_path / "big.bin"
    path.write_bytes(b"0123456789" * 1000)
    done = openai_client.uploads.upload_file_chunked(
        file=path, mime_type="application/octet-stream", purpose="user_data", part_size=4096,
        md5=hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest(),
    )  # fmt: skip
    assert done.status == "completed"
    assert openai_client.files.content(done.file.id).read() == path.read_bytes()


def test_parts_are_joined_in_the_order_given_whatever_the_order_sent(client, stored_files, pending_keys):
    upload = create(client, 6)
    with ThreadPoolExecutor(3) as pool:
        parts = dict(
            zip("abc", pool.map(lambda c: add(client, upload, c.encode() * 2).json()["id"], "abc"), strict=True)
        )
    done = complete(client, upload, [parts["c"], parts["a"], parts["b"]]).json()
    assert client.get(f"/v1/files/{done['file']['id']}/content").content == b"ccaabb"
    assert stored_files() == [f"files/{done['file']['id']}"]
    assert pending_keys() == 0


def test_an_empty_upload_becomes_an_empty_file(client):
    assert complete(client, create(client, 0), []).json()["file"]["bytes"] == 0


def test_an_upload_that_does_not_add_up_is_refused_and_stays_open(client, pending_keys):
    upload = create(client, 4)
    part = add(client, upload, b"abc").json()["id"]
    for part_ids, more in (([part], {}), ([], {}), ([part, part], {}), (["part_none"], {})):
        answer = complete(client, upload, part_ids, **more)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "part_ids")
    other = add(client, upload, b"d").json()["id"]
    wrong = complete(client, upload, [part, other], md5="0" * 32)
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "md5")
    assert pending_keys() == 0
    assert complete(client, upload, [part, other]).status_code == 200


def test_a_training_file_in_parts_is_checked_as_one_sent_whole(client):
    upload = create(client, 3, purpose="fine-tune")
    part = add(client, upload, b"abc").json()["id"]
    answer = complete(client, upload, [part])
    assert "Expected file to have JSONL format" in answer.json()["error"]["message"]
    assert client.get("/v1/files").json()["data"] == []


def test_completing_twice_at_the_same_time_makes_one_file(client):
    upload = create(client, 1)
    part = add(client, upload, b"x").json()["id"]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: complete(client, upload, [part]).status_code, range(4)))
    assert answers.count(200) == 1
    assert set(answers) <= {200, 400, 409}
    assert len(client.get("/v1/files").json()["data"]) == 1


def test_a_cancelled_upload_takes_nothing_more_and_its_parts_go(client, stored_files):
    upload = create(client, 1)
    part = add(client, upload, b"x").json()["id"]
    assert client.post(f"/v1/uploads/{upload}/cancel").json()["status"] == "cancelled"
    assert client.post(f"/v1/uploads/{upload}/cancel").json()["status"] == "cancelled"
    assert stored_files() == []
    for answer in (add(client, upload, b"x"), complete(client, upload, [part])):
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "upload_not_pending")


def test_an_upload_expires_after_its_hour_and_is_swept(client, context, services, stored_files):
    upload = create(client, 1)
    add(client, upload, b"x")
    with context.database.unit_of_work() as work:
        work.session.get(Upload, upload).expires_at -= timedelta(hours=1)
    assert "expired" in add(client, upload, b"y").json()["error"]["message"]
    with services() as s:
        assert s.uploads.expire_due() == 1
        assert s.uploads.expire_due() == 0
    assert stored_files() == []
    with context.database.unit_of_work() as work:
        assert work.session.get(Upload, upload).status == "expired"
        assert work.session.query(UploadPart).count() == 0


def test_a_part_beyond_its_limit_is_refused(client, monkeypatch, stored_files):
    monkeypatch.setattr("app.files.uploads.PART_BYTES_MAX", 10)
    upload = create(client, 11)
    assert add(client, upload, b"x" * 11).status_code == 413
    assert stored_files() == []


def test_parts_together_may_not_pass_the_limit_of_a_file(client, context, stored_files):
    object.__setattr__(context.settings, "max_file_bytes", 10)
    upload = create(client, 10)
    assert add(client, upload, b"x" * 8).status_code == 200
    assert add(client, upload, b"x" * 8).status_code == 413
    assert len(stored_files()) == 1
    too_large = {"bytes": 11, "filename": "f", "mime_type": "t", "purpose": "user_data"}
    assert client.post("/v1/uploads", json=too_large).status_code == 413


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"bytes": -1}, "bytes"),
        ({"bytes": True}, "bytes"),
        ({"bytes": "1"}, "bytes"),
        ({"bytes": 1.5}, "bytes"),
        ({"purpose": "x"}, "purpose"),
        ({"filename": ""}, "filename"),
        ({"expires_after": {"anchor": "created_at", "seconds": 1}}, "expires_after.seconds"),
    ],
)
def test_a_wrong_value_is_named(client, change, param):
    body = {"bytes": 0, "filename": "f", "mime_type": "t", "purpose": "user_data", **change}
    answer = client.post("/v1/uploads", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_another_teams_upload_is_absent(client, other_team):
    upload = create(client, 1)
    for path, kwargs in (
        ("parts", {"files": {"data": b"x"}}), ("complete", {"json": {"part_ids": []}}), ("cancel", {}),
    ):  # fmt: skip
        answer = client.post(f"/v1/uploads/{upload}/{path}", headers=other_team, **kwargs)
        assert answer.status_code == 404
