"""/v1/files: streamed in, checked, seen by its team only, and gone when it is deleted."""

import hashlib
import resource
from datetime import timedelta

import httpx
import pytest

from app.db.tables import File, PendingArtifact

ROWS = b'{"messages": [{"role": "user", "content": "hi"}]}\n' * 10


def upload(client, content=ROWS, *, filename="train.jsonl", purpose="fine-tune", **kwargs):
    data = {"purpose": purpose, **kwargs.pop("data", {})}
    return client.post("/v1/files", files={"file": (filename, content)}, data=data, **kwargs)


def test_the_official_client_uploads_lists_reads_and_deletes(openai_client):
    made = openai_client.files.create(
        file=("train.jsonl", ROWS), purpose="fine-tune", expires_after={"anchor": "created_at", "seconds": 3600}
    )
    assert (made.bytes, made.filename, made.purpose, made.status) == (
        len(ROWS),
        "train.jsonl",
        "fine-tune",
        "processed",
    )
    assert made.expires_at == made.created_at + 3600
    assert [file.id for file in openai_client.files.list()] == [made.id]
    assert openai_client.files.wait_for_processing(made.id).id == made.id
    assert openai_client.files.content(made.id).read() == ROWS
    assert openai_client.files.delete(made.id).deleted
    for call in (openai_client.files.retrieve, openai_client.files.content, openai_client.files.delete):
        with pytest.raises(Exception, match="No such File object"):
            call(made.id)


def test_the_file_after_the_fields_or_before_them_is_the_same(client):
    for parts in (["purpose", "file"], ["file", "purpose"]):
        blocks = {
            "purpose": b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n',
            "file": b'--b\r\nContent-Disposition: form-data; name="file"; filename="t"\r\n\r\n' + ROWS + b"\r\n",
        }
        body = b"".join(blocks[part] for part in parts) + b"--b--\r\n"
        answer = client.post("/v1/files", content=body, headers={"content-type": "multipart/form-data; boundary=b"})
        assert answer.json()["sha256"] == hashlib.sha256(ROWS).hexdigest()


def test_a_training_file_that_is_no_jsonl_is_refused_and_leaves_nothing(client, stored_files, pending_keys):
    answer = upload(client, b'{\n "messages": []}')
    assert answer.status_code == 400
    assert answer.json()["error"] == {
        "message": "Expected file to have JSONL format, where every line is a JSON dictionary. "
        'Line 1 is not a dictionary (HINT: line starts with: "{...").',
        "type": "invalid_request_error",
        "param": None,
        "code": None,
    }
    assert stored_files() == []
    assert pending_keys() == 0
    assert client.get("/v1/files").json()["data"] == []


@pytest.mark.parametrize("filename", ["rows.csv", "rows.TSV", "train.conll", "train.txt"])
def test_tables_and_tagged_tokens_are_taken_as_they_are_by_their_name(client, filename):
    assert upload(client, b"text,label\nhi,greeting\n", filename=filename).status_code == 200
    assert upload(client, b"text,label\nhi,greeting\n", filename=f"{filename}.json").status_code == 400


def test_other_purposes_take_any_bytes_even_none(client):
    for content in (b"", b"\x00\xff" * 100):
        assert upload(client, content, purpose="user_data").status_code == 200


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"purpose": "nonsense"}, "purpose"),
        ({"filename": ""}, "file"),
        ({"data": {"expires_after[anchor]": "created_at", "expires_after[seconds]": "1"}}, "expires_after.seconds"),
        ({"data": {"expires_after[seconds]": "3600"}}, "expires_after.anchor"),
    ],
)
def test_a_wrong_field_is_named_and_nothing_is_kept(client, change, param, stored_files):
    answer = upload(client, **change)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert stored_files() == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no multipart at all",
        b"--b\r\n",
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\ncut off',
        b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--b--\r\n',
        b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n",
        b'--b\r\nContent-Disposition: form-data; name="a\xff"\r\n\r\nx\r\n--b--\r\n',
        b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\n\xff\r\n--b--\r\n',
        b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\na\x00\r\n--b--\r\n',
        b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\n' + b"x" * 100_000 + b"\r\n--b--\r\n",
        b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\nx\r\n' * 40 + b"--b--\r\n",
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\nx\r\n' * 2 + b"--b--\r\n",
        b"--b\r\n" + b"X: y\r\n" * 1000 + b"\r\n--b--\r\n",
    ],
)
def test_a_broken_multipart_body_is_a_400_and_leaves_nothing(client, body, stored_files, pending_keys):
    answer = client.post("/v1/files", content=body, headers={"content-type": "multipart/form-data; boundary=b"})
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
    assert stored_files() == []
    assert pending_keys() == 0


@pytest.mark.parametrize(
    "kind", ["application/json", "multipart/form-data", "multipart/form-data; boundary=" + "b" * 500, ""]
)
def test_a_body_that_is_not_multipart_is_a_400(client, kind):
    assert client.post("/v1/files", content=b"{}", headers={"content-type": kind}).status_code == 400


def test_a_file_beyond_the_limit_is_refused_while_it_arrives(client, context, stored_files):
    object.__setattr__(context.settings, "max_file_bytes", 3_000_000)
    answer = upload(client, b"x" * 3_000_001, purpose="user_data")
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "file_too_large")
    assert stored_files() == []
    assert upload(client, b"x" * 3_000_000, purpose="user_data").status_code == 200


def test_a_sender_that_goes_away_leaves_nothing(live_server, api_key, stored_files, pending_keys):
    def body():
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n' + b"x" * 2_000_000
        raise ConnectionAbortedError

    headers = {"Authorization": f"Bearer {api_key}", "content-type": "multipart/form-data; boundary=b"}
    with pytest.raises(ConnectionAbortedError):
        httpx.post(f"{live_server}/v1/files", content=body(), headers=headers)
    # The server ends the broken request before or while it answers the next ones.
    for _ in range(200):
        listed = httpx.get(f"{live_server}/v1/files", headers=headers).json()["data"]
        if stored_files() == [] and pending_keys() == 0:
            break
    assert (listed, stored_files(), pending_keys()) == ([], [], 0)


def test_a_large_file_streams_through_little_memory(live_server, api_key):
    """64 MiB up and down in one process, sender included; whole in memory it would take as much again, and more."""
    size = 64 * 1024 * 1024
    block = b"0123456789abcdef" * 65_536

    def body():
        yield b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nuser_data\r\n'
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
        for _ in range(size // len(block)):
            yield block
        yield b"\r\n--b--\r\n"

    headers = {"Authorization": f"Bearer {api_key}", "content-type": "multipart/form-data; boundary=b"}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    made = httpx.post(f"{live_server}/v1/files", content=body(), headers=headers, timeout=120).json()
    assert made["bytes"] == size
    received = 0
    with httpx.stream("GET", f"{live_server}/v1/files/{made['id']}/content", headers=headers, timeout=120) as answer:
        for chunk in answer.iter_bytes():
            received += len(chunk)
    assert received == size
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 40 * 1024  # KiB


def test_a_clients_filename_is_a_label_only(client, stored_files):
    made = upload(client, filename="../../etc/passwd", purpose="user_data").json()
    assert made["filename"] == "passwd"
    assert stored_files() == [f"files/{made['id']}"]
    disposition = client.get(f"/v1/files/{made['id']}/content").headers["content-disposition"]
    assert disposition.startswith("attachment; filename=")


def test_another_team_sees_nothing_and_gets_the_same_answer_as_for_nothing(client, other_team):
    made = upload(client).json()
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/content")):
        foreign = client.request(method, f"/v1/files/{made['id']}{path}", headers=other_team)
        absent = client.request(method, f"/v1/files/file-none{path}", headers=other_team)
        assert foreign.status_code == absent.status_code == 404
        assert foreign.text.replace(made["id"], "file-none") == absent.text
    assert client.get("/v1/files", headers=other_team).json()["data"] == []
    assert client.get("/v1/files", params={"after": made["id"]}, headers=other_team).json()["data"] == []
    assert client.get(f"/v1/files/{made['id']}").status_code == 200


def test_lists_are_filtered_ordered_and_paged(client):
    ids = [upload(client, purpose=p).json()["id"] for p in ("fine-tune", "user_data", "fine-tune", "fine-tune")]
    listed = client.get("/v1/files", params={"purpose": "fine-tune"}).json()
    assert [file["id"] for file in listed["data"]] == [ids[3], ids[2], ids[0]]
    assert (listed["first_id"], listed["last_id"], listed["has_more"]) == (ids[3], ids[0], False)
    first = client.get("/v1/files", params={"order": "asc", "limit": 2}).json()
    rest = client.get("/v1/files", params={"order": "asc", "after": first["last_id"]}).json()
    assert [file["id"] for file in first["data"] + rest["data"]] == ids
    client.delete(f"/v1/files/{ids[1]}")
    rest = client.get("/v1/files", params={"order": "asc", "after": ids[1]}).json()
    assert [file["id"] for file in rest["data"]] == ids[2:]


def test_a_deleted_files_bytes_go_and_a_sweep_finds_what_a_crash_left(
    client, context, services, monkeypatch, stored_files
):
    made = [upload(client).json()["id"] for _ in range(2)]
    client.delete(f"/v1/files/{made[0]}")
    assert stored_files() == [f"files/{made[1]}"]

    def fail(_):
        raise OSError("store away")

    with monkeypatch.context() as patch:
        patch.setattr(type(context.artifacts), "delete", lambda _, key: fail(key))
        assert client.delete(f"/v1/files/{made[1]}").status_code == 200
    assert stored_files() == [f"files/{made[1]}"]
    with services() as s:
        assert s.files.expire_due() == 2
    assert stored_files() == []
    with services() as s:
        assert s.files.expire_due() == 0


def test_an_expired_file_is_absent_at_once_and_swept_later(client, context, services, stored_files):
    made = upload(client, data={"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}).json()["id"]
    with context.database.unit_of_work() as work:
        work.session.get(File, made).expires_at -= timedelta(hours=2)
    assert client.get(f"/v1/files/{made}").status_code == 404
    assert client.get("/v1/files").json()["data"] == []
    with services() as s:
        assert s.files.expire_due() == 1
    assert stored_files() == []
    assert client.get("/v1/audit", params={"object_id": made}).json()["data"][0]["action"] == "file.expire"


def test_what_a_killed_upload_left_in_the_store_is_swept_after_a_day(context, services, stored_files, pending_keys):
    work = context.database.open()
    from app.factory import Services  # noqa: PLC0415

    _, incoming = Services(context, work).files.begin()
    incoming.take(b"x")
    incoming.finish()  # the bytes are in the store, and the process dies before the row is committed
    assert len(stored_files()) == 1
    with services() as s:
        assert s.files.expire_due() == 0
    with context.database.unit_of_work() as other:
        for row in other.session.query(PendingArtifact):
            row.created_at -= timedelta(hours=25)
    with services() as s:
        assert s.files.expire_due() == 1
    assert stored_files() == []
    assert pending_keys() == 0
    work.session.close()


def test_the_service_makes_files_from_local_ones(services, tmp_path, client):
    path = tmp_path / "metrics.csv"
    path.write_bytes(b"step,train_loss\n1,0.5\n")
    with services() as s:
        team = s.identity.authenticate(client.headers["authorization"].removeprefix("Bearer ")).team_id
        file = s.files.create_from_path(team, "worker:1", path, filename="step_metrics.csv")
        s.files.fetch(file, tmp_path / "copy")
    shown = client.get(f"/v1/files/{file.id}").json()
    assert (shown["purpose"], shown["filename"]) == ("fine-tune-results", "step_metrics.csv")
    assert client.get(f"/v1/files/{file.id}/content").content == path.read_bytes()
    assert (tmp_path / "copy").read_bytes() == path.read_bytes()


def test_a_file_whose_transaction_fails_leaves_no_bytes(services, client, stored_files, pending_keys):
    def fail():
        with services() as s:
            team = s.identity.authenticate(client.headers["authorization"].removeprefix("Bearer ")).team_id
            s.files.create_from_stream(team, "system", iter([b"x"]), filename="f", purpose="user_data")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert stored_files() == []
    assert pending_keys() == 0
