"""Adapters on their way to the store and back: one deterministic tar in PEFT's format with its hashes."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

from app.artifacts.base import ArtifactStore
from app.contracts.specs import BaseRef
from app.jobs.worker_messages import ParentAdapter, PublishedAdapter
from workers.supervisor.checkpoint_folder import add_file, sha256_of

WEIGHTS_FILE = "adapter_model.safetensors"
_MANIFEST = "manifest.json"


def publish_adapter(store: ArtifactStore, folder: Path, *, base: BaseRef, key: str, staging: Path) -> PublishedAdapter:
    """Pack `folder` with a manifest, store it under `key` and check what the store says it got.

    `OSError` for faults of the disk, the store, or bytes that changed on the way.
    """
    files = {
        path.name: {"sha256": sha256_of(path), "bytes": path.stat().st_size}
        for path in sorted(folder.iterdir())
        if path.is_file()
    }
    archive = staging / f"{key.replace('/', '_')}"
    try:
        _pack(folder, archive, files=files, base=base)
        expected = sha256_of(archive)
        stored = store.put_file(key, archive)
    finally:
        archive.unlink(missing_ok=True)
    if stored.sha256 != expected:
        store.delete(key)
        raise OSError(f"the adapter changed on its way to the store ({key})")
    return PublishedAdapter(
        archive_key=key,
        archive_sha256=stored.sha256,
        archive_bytes=stored.bytes,
        adapter_sha256=str(files[WEIGHTS_FILE]["sha256"]),
        files=files,
    )


def _pack(folder: Path, archive: Path, *, files: dict[str, dict[str, Any]], base: BaseRef) -> None:
    """Members in the order of their names, without times and owners: same adapter, same bytes."""
    manifest = {
        "version": 1,
        "format": "peft" if "adapter_config.json" in files else "full",
        "base": {"id": base.id, "weights_sha256": base.weights_sha256},
        "files": files,
    }
    manifest_bytes = (json.dumps(manifest, indent=1, sort_keys=True) + "\n").encode()
    with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as tar:
        for name in files:
            add_file(tar, folder / name, name)
        member = tarfile.TarInfo(_MANIFEST)
        member.size = len(manifest_bytes)
        member.mode = 0o644
        tar.addfile(member, io.BytesIO(manifest_bytes))


def fetch_adapter(store: ArtifactStore, parent: ParentAdapter, folder: Path) -> Path:
    """Fetch and unpack an adapter into `folder`; `ValueError`, `KeyError` or `OSError` if it is not what was stored."""
    archive = folder.with_suffix(".tar")
    store.fetch(parent.archive_key, archive, sha256=parent.archive_sha256)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
    except tarfile.TarError as error:
        raise ValueError(f"the adapter {parent.model_id} cannot be unpacked: {error}") from error
    finally:
        archive.unlink()
    if sha256_of(folder / WEIGHTS_FILE) != parent.adapter_sha256:
        raise ValueError(f"the weights of adapter {parent.model_id} do not have the hash recorded for them")
    return folder
