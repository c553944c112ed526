import json
import tarfile
from pathlib import Path

import pytest

from app.artifacts.local import LocalStore
from app.contracts.specs import BaseRef
from app.jobs.worker_messages import ParentAdapter
from workers.supervisor.adapter_archive import fetch_adapter, publish_adapter
from workers.supervisor.checkpoint_folder import sha256_of

BASE = BaseRef(id="tiny", path="/nowhere", weights_sha256="0" * 64, context_length=8)


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    (folder / "adapter_config.json").write_text("{}")
    return folder


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def publish(store: LocalStore, adapter: Path, key: str = "jobs/a/1/adapter-3.tar"):
    return publish_adapter(store, adapter, base=BASE, key=key, staging=adapter.parent)


def test_the_same_adapter_gives_the_same_bytes(store: LocalStore, adapter: Path) -> None:
    first = publish(store, adapter, "jobs/a/1/adapter-3.tar")
    (adapter / "adapter_config.json").touch()
    second = publish(store, adapter, "jobs/b/1/adapter-3.tar")
    assert first.archive_sha256 == second.archive_sha256


def test_the_archive_holds_the_hash_of_every_file(store: LocalStore, adapter: Path, tmp_path: Path) -> None:
    published = publish(store, adapter)
    store.fetch(published.archive_key, tmp_path / "a.tar", sha256=published.archive_sha256)
    with tarfile.open(tmp_path / "a.tar") as tar:
        manifest = json.load(tar.extractfile("manifest.json"))
    assert manifest["files"] == published.files
    for name, entry in published.files.items():
        assert entry == {"sha256": sha256_of(adapter / name), "bytes": (adapter / name).stat().st_size}
    assert published.adapter_sha256 == published.files["adapter_model.safetensors"]["sha256"]


def test_nothing_is_left_in_staging(store: LocalStore, adapter: Path) -> None:
    publish(store, adapter)
    assert not list(adapter.parent.glob("*.tar"))


def test_an_adapter_comes_back_as_it_was(store: LocalStore, adapter: Path, tmp_path: Path) -> None:
    published = publish(store, adapter)
    parent = ParentAdapter("ft:x", published.archive_key, published.archive_sha256, published.adapter_sha256)
    folder = fetch_adapter(store, parent, tmp_path / "parent")
    assert (folder / "adapter_model.safetensors").read_bytes() == b"weights"


def test_an_adapter_with_other_weights_than_recorded_is_refused(
    store: LocalStore, adapter: Path, tmp_path: Path
) -> None:
    published = publish(store, adapter)
    parent = ParentAdapter("ft:x", published.archive_key, published.archive_sha256, "0" * 64)
    with pytest.raises(ValueError, match="weights"):
        fetch_adapter(store, parent, tmp_path / "parent")
