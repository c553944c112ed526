"""One suite for every artifact store: what `app.artifacts.base` promises, each implementation keeps."""

import hashlib
import importlib.util
import secrets
import threading

import pytest

from app.artifacts.open import open_store


@pytest.fixture(params=["local", "s3"])
def store(request, tmp_path, monkeypatch):
    if request.param == "local":
        yield open_store((tmp_path / "artifacts").as_uri())
        return
    missing = [name for name in ("boto3", "moto") if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"the S3 store needs {' and '.join(missing)}, which is not installed here")
    yield from s3_store(monkeypatch)


def s3_store(monkeypatch):
    import boto3  # noqa: PLC0415
    from moto.server import ThreadedMotoServer  # noqa: PLC0415

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "made-up")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    bucket = f"bucket-{secrets.token_hex(8)}"  # moto keeps its buckets as long as the process lives
    boto3.client("s3", endpoint_url=url).create_bucket(Bucket=bucket)
    try:
        yield open_store(f"s3://{bucket}/some/prefix", endpoint_url=url)
    finally:
        server.stop()


def put(store, key, data):
    writer = store.open_writer(key)
    for start in range(0, len(data), 100_000):
        writer.write(data[start : start + 100_000])
    return writer.commit()


@pytest.mark.parametrize("size", [0, 1, 1024 * 1024, 3 * 1024 * 1024 + 5])
def test_what_is_written_is_read_with_its_size_and_hash(store, size):
    data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    stored = put(store, "files/a", data)
    assert (stored.key, stored.bytes, stored.sha256) == ("files/a", size, hashlib.sha256(data).hexdigest())
    chunks = list(store.read("files/a"))
    assert b"".join(chunks) == data
    assert all(0 < len(chunk) <= 1024 * 1024 for chunk in chunks)
    assert store.size("files/a") == size


def test_a_large_object_arrives_whole(store):
    data = hashlib.sha256(b"seed").digest() * (40 * 1024 * 1024 // 32)
    put(store, "files/large", data)
    digest = hashlib.sha256()
    for chunk in store.read("files/large"):
        digest.update(chunk)
    assert digest.digest() == hashlib.sha256(data).digest()


def test_nothing_is_visible_before_the_commit(store):
    writer = store.open_writer("files/a")
    writer.write(b"half")
    with pytest.raises(KeyError):
        store.read("files/a")
    writer.abort()


@pytest.mark.parametrize("size", [4, 20 * 1024 * 1024])
def test_an_aborted_write_leaves_nothing(store, size):
    writer = store.open_writer("files/a")
    writer.write(b"x" * size)
    writer.abort()
    with pytest.raises(KeyError):
        store.size("files/a")


def test_abort_after_commit_is_harmless(store):
    writer = store.open_writer("files/a")
    writer.write(b"whole")
    writer.commit()
    writer.abort()
    assert b"".join(store.read("files/a")) == b"whole"


def test_an_absent_key_raises_at_the_call(store):
    with pytest.raises(KeyError):
        store.read("files/none")
    with pytest.raises(KeyError):
        store.size("files/none")
    store.delete("files/none")
    store.delete_prefix("files/none")


def test_writing_a_key_again_replaces_the_object_whole(store):
    put(store, "files/a", b"old and longer")
    reader = store.read("files/a")
    put(store, "files/a", b"new")
    assert b"".join(reader) == b"old and longer"
    assert b"".join(store.read("files/a")) == b"new"


def test_delete_removes_one_object_and_a_prefix_removes_all_below_it(store):
    for key in ("jobs/1/2/a", "jobs/1/2/b", "jobs/1/3", "jobs/10/x"):
        put(store, key, b"x")
    store.delete("jobs/1/2/a")
    with pytest.raises(KeyError):
        store.size("jobs/1/2/a")
    store.delete_prefix("jobs/1/")
    for key in ("jobs/1/2/b", "jobs/1/3"):
        with pytest.raises(KeyError):
            store.size(key)
    assert store.size("jobs/10/x") == 1


@pytest.mark.parametrize(
    "key",
    [
        "../outside",
        "files/../../outside",
        "/etc/passwd",
        "files//a",
        "files/./a",
        "",
        "files/",
        ".incoming/x",
        "a\\b",
        "a\x00b",
        "ä",
        "a" * 600,
    ],
)
def test_a_key_that_we_would_not_make_is_refused(store, key):
    for call in (store.open_writer, store.read, store.size, store.delete):
        with pytest.raises(ValueError, match="artifact key"):
            call(key)


def test_put_file_and_fetch_copy_with_a_checked_hash(store, tmp_path):
    source = tmp_path / "source"
    source.write_bytes(b"adapter")
    stored = store.put_file("jobs/a", source)
    target = tmp_path / "deep" / "target"
    store.fetch("jobs/a", target, sha256=stored.sha256)
    assert target.read_bytes() == b"adapter"


def test_fetch_of_an_object_with_another_hash_leaves_no_file(store, tmp_path):
    put(store, "jobs/a", b"flipped")
    target = tmp_path / "deep" / "target"
    with pytest.raises(ValueError, match="SHA-256"):
        store.fetch("jobs/a", target, sha256="0" * 64)
    assert list(target.parent.iterdir()) == []


def test_an_unread_object_can_be_dropped_without_a_warning(store):
    put(store, "files/a", b"x" * 10)
    reader = store.read("files/a")
    del reader


def test_writers_of_one_key_at_the_same_time_leave_one_whole_object(store):
    contents = [bytes([number]) * 200_000 for number in range(4)]
    threads = [threading.Thread(target=put, args=(store, "files/a", data)) for data in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert b"".join(store.read("files/a")) in contents


def test_the_check_passes_on_a_usable_store(store):
    store.check()


@pytest.mark.parametrize("url", ["", "files", "file://host/folder", "ftp://x/y", "s3://", "file:relative"])
def test_an_address_that_is_no_store_is_refused(url):
    with pytest.raises(ValueError, match="artifacts_url"):
        open_store(url)
