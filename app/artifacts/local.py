"""Artifacts in a local folder: temp file, fsync, rename, fsync of the parent."""

import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from app.artifacts.base import ArtifactWriter, Stored
from app.artifacts.keys import checked_key
from app.logs import logger

CHUNK_BYTES = 1024 * 1024
# A temp file that nobody has written to for this long belongs to a process that is gone.
_STALE_SECONDS = 24 * 3600


class LocalStore:
    """Keeps `artifacts.base.ArtifactStore`'s contract on one file system."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()
        # A key's segments never start with a dot, so temp files can never be read as objects.
        self._incoming = self._root / ".incoming"
        self._incoming.mkdir(parents=True, exist_ok=True)
        self._sweep()

    def open_writer(self, key: str) -> ArtifactWriter:
        return _LocalWriter(checked_key(key), self._path(key), self._incoming / secrets.token_hex(16), self._root)

    def put_file(self, key: str, path: Path) -> Stored:
        writer = self.open_writer(key)
        try:
            with path.open("rb") as source:
                while chunk := source.read(CHUNK_BYTES):
                    writer.write(chunk)
            return writer.commit()
        finally:
            writer.abort()

    def read(self, key: str) -> Iterator[bytes]:
        try:
            return _Chunks(self._path(key).open("rb"))
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            raise KeyError(key) from None

    def fetch(self, key: str, path: Path, *, sha256: str) -> None:
        copy_checked(self.read(key), path, key=key, sha256=sha256)

    def size(self, key: str) -> int:
        path = self._path(key)
        try:
            status = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            raise KeyError(key) from None
        if not path.is_file():
            raise KeyError(key)
        return status.st_size

    def delete(self, key: str) -> None:
        with suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):
            self._path(key).unlink()

    def delete_prefix(self, prefix: str) -> None:
        path = self._path(prefix.rstrip("/"))
        with suppress(FileNotFoundError, NotADirectoryError):
            if path.is_dir():
                shutil.rmtree(path)

    def check(self) -> None:
        if not os.access(self._incoming, os.W_OK):
            raise OSError("the artifact folder cannot be written to")

    def _path(self, key: str) -> Path:
        return self._root.joinpath(*checked_key(key).split("/"))

    def _sweep(self) -> None:
        oldest = time.time() - _STALE_SECONDS
        for path in self._incoming.iterdir():
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < oldest:
                    path.unlink()


class _LocalWriter:
    """One temp file on its way to its key."""

    def __init__(self, key: str, target: Path, temp: Path, root: Path) -> None:
        self._key = key
        self._target = target
        self._temp = temp
        self._root = root
        self._file = temp.open("xb")
        self._hash = hashlib.sha256()
        self._bytes = 0

    def write(self, chunk: bytes) -> None:
        self._file.write(chunk)
        self._hash.update(chunk)
        self._bytes += len(chunk)

    def commit(self) -> Stored:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        created = [
            folder for folder in self._target.parents if folder.is_relative_to(self._root) and not folder.exists()
        ]
        self._target.parent.mkdir(parents=True, exist_ok=True)
        self._temp.replace(self._target)
        # The rename is durable once its folder is; a new folder once the folder above it is.
        for folder in {self._target.parent, *(folder.parent for folder in created)}:
            sync_folder(folder)
        return Stored(self._key, self._bytes, self._hash.hexdigest())

    def abort(self) -> None:
        try:
            self._file.close()
        except OSError as error:  # it tries once more to write what a full disk had no room for
            logger.debug("what was not wanted any more was not written: %s", error)
        finally:
            self._temp.unlink(missing_ok=True)


class _Chunks(Iterator[bytes]):
    """A file in chunks; closed at its end, or when nobody wants it any more."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def __next__(self) -> bytes:
        chunk = b"" if self._file.closed else self._file.read(CHUNK_BYTES)
        if not chunk:
            self._file.close()
            raise StopIteration
        return chunk

    def close(self) -> None:
        self._file.close()

    def __del__(self) -> None:
        self._file.close()


def copy_checked(chunks: Iterator[bytes], path: Path, *, key: str, sha256: str) -> None:
    """Write `chunks` to `path` atomically if their SHA-256 is `sha256`; `ValueError` if not, and no file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temp = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    digest = hashlib.sha256()
    try:
        with temp.open("xb") as target:
            for chunk in chunks:
                digest.update(chunk)
                target.write(chunk)
            target.flush()
            os.fsync(target.fileno())
        if digest.hexdigest() != sha256:
            raise ValueError(f"the object {key} does not have the SHA-256 recorded for it")
        temp.replace(path)
        sync_folder(path.parent)
    finally:
        temp.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make the names inside `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
