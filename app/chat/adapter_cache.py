"""Local copies of adapters for the serving engine: unpacked once, checked by hash, placed atomically."""

import hashlib
import shutil
import tarfile
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

from app.artifacts.base import ArtifactStore
from app.contracts.specs import AdapterRef
from app.errors import AppError, Unavailable
from app.logs import logger

_WEIGHTS = "adapter_model.safetensors"
_READ_BYTES = 1024 * 1024


@dataclass(frozen=True)
class AdapterArchive:
    """Where a tuned model's adapter lies in the store, and the hashes it must have."""

    model_id: str
    key: str
    archive_sha256: str
    weights_sha256: str


class AdapterCache:
    """Folders named by the archive's hash under one root; safe for several threads and processes."""

    def __init__(self, store: ArtifactStore, root: Path) -> None:
        self._store = store
        self._root = root
        self._lock = threading.Lock()

    def materialise(self, archive: AdapterArchive) -> AdapterRef:
        """The adapter as a local folder. Slow only the first time; file work, so never inside a transaction."""
        folder = self._root / archive.archive_sha256
        with self._lock:
            if not folder.is_dir():
                self._unpack(archive, folder)
        return AdapterRef(id=archive.model_id, path=str(folder), sha256=archive.weights_sha256)

    def _unpack(self, archive: AdapterArchive, folder: Path) -> None:
        self._root.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=".unpack-", dir=self._root))
        try:
            packed, unpacked = work / "archive", work / "adapter"
            self._fetch(archive, packed)
            unpacked.mkdir()
            _extract(archive, packed, unpacked)
            if not (unpacked / _WEIGHTS).is_file() or _sha256(unpacked / _WEIGHTS) != archive.weights_sha256:
                raise _damaged(archive, f"its {_WEIGHTS} has another hash than the registry recorded")
            _place(unpacked, folder)
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def _fetch(self, archive: AdapterArchive, path: Path) -> None:
        try:
            self._store.fetch(archive.key, path, sha256=archive.archive_sha256)
        except KeyError as error:
            raise _damaged(archive, "its archive is missing from the artifact store") from error
        except ValueError as error:
            raise _damaged(archive, "its archive has another hash than the registry recorded") from error
        except OSError as error:
            logger.error("adapter of %s could not be fetched: %s", archive.model_id, error)
            raise Unavailable(
                f"The adapter of '{archive.model_id}' cannot be read from the artifact store right now. "
                "Try again in a moment.",
                code="artifact_store_unavailable",
            ) from error


def _extract(archive: AdapterArchive, packed: Path, folder: Path) -> None:
    try:
        with tarfile.open(packed) as tar:
            tar.extractall(folder, filter="data")
    except tarfile.TarError as error:
        raise _damaged(archive, "its archive cannot be unpacked") from error


def _place(unpacked: Path, folder: Path) -> None:
    try:
        unpacked.rename(folder)
    except OSError:
        if not folder.is_dir():  # else another process was first, with the same bytes
            raise


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_READ_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _damaged(archive: AdapterArchive, reason: str) -> AppError:
    logger.error("adapter of %s cannot be served: %s (key %s)", archive.model_id, reason, archive.key)
    return AppError(
        f"The model '{archive.model_id}' cannot be served: {reason}. Nothing was answered with other weights. "
        "Please tell the operator of this service.",
        code="adapter_damaged",
    )
