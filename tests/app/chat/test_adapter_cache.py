"""Adapters as local folders."""

import hashlib
import io
import tarfile

import pytest

from app.artifacts.local import LocalStore
from app.chat.adapter_cache import AdapterArchive, AdapterCache
from app.errors import AppError, Unavailable

WEIGHTS = b"weights of an adapter"


def pack(store, names=("adapter_model.safetensors", "adapter_config.json")):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in names:
            data = WEIGHTS if name.endswith("safetensors") else b"{}"
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    writer = store.open_writer("models/one/adapter.tar")
    writer.write(buffer.getvalue())
    stored = writer.commit()
    return AdapterArchive("ft:tiny:acme::abc", stored.key, stored.sha256, hashlib.sha256(WEIGHTS).hexdigest())


@pytest.fixture
def store(tmp_path):
    return LocalStore(tmp_path / "artifacts")


def test_an_adapter_is_unpacked_once_and_found_again(store, tmp_path):
    archive = pack(store)
    cache = AdapterCache(store, tmp_path / "serving")
    adapter = cache.materialise(archive)
    assert (tmp_path / "serving" / archive.archive_sha256).as_posix() == adapter.path
    assert adapter.sha256 == archive.weights_sha256
    store.delete(archive.key)
    assert AdapterCache(store, tmp_path / "serving").materialise(archive) == adapter
    assert [path.name for path in (tmp_path / "serving").iterdir()] == [archive.archive_sha256]


def test_a_missing_archive_and_foreign_weights_are_never_served(store, tmp_path):
    archive = pack(store)
    cache = AdapterCache(store, tmp_path / "serving")
    changed = AdapterArchive(archive.model_id, archive.key, archive.archive_sha256, "0" * 64)
    with pytest.raises(AppError, match="another hash"):
        cache.materialise(changed)
    other_archive = AdapterArchive(archive.model_id, archive.key, "0" * 64, archive.weights_sha256)
    with pytest.raises(AppError, match="another hash"):
        cache.materialise(other_archive)
    with pytest.raises(AppError, match="missing"):
        cache.materialise(AdapterArchive("m", "models/none.tar", "1" * 64, archive.weights_sha256))
    assert list((tmp_path / "serving").iterdir()) == []


def test_a_store_that_is_away_is_worth_another_try(store, tmp_path, monkeypatch):
    archive = pack(store)

    def away(*_args, **_fields):
        raise ConnectionError("refused")

    monkeypatch.setattr(store, "fetch", away)
    with pytest.raises(Unavailable, match="Try again"):
        AdapterCache(store, tmp_path / "serving").materialise(archive)


def test_an_archive_cannot_write_outside_its_folder(store, tmp_path):
    archive = pack(store, ("adapter_model.safetensors", "../../evil"))
    with pytest.raises(AppError, match="cannot be unpacked"):
        AdapterCache(store, tmp_path / "serving").materialise(archive)
    assert not (tmp_path / "evil").exists()
