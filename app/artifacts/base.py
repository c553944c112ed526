"""Where bytes live: one Protocol with a written contract, kept by a local folder and by S3.

Keys are made by us (never from a client's strings): `files/<id>`, `jobs/<id>/<fence>/…`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Stored:
    """Proof of a finished write."""

    key: str
    bytes: int
    sha256: str


class ArtifactWriter(Protocol):
    """An object being written. Nothing is visible under the key before `commit`."""

    def write(self, chunk: bytes) -> None: ...

    def commit(self) -> Stored:
        """Make the object visible, durably (fsync or the store's own promise)."""
        ...

    def abort(self) -> None:
        """Leave nothing behind. Harmless after `commit`."""
        ...


class ArtifactStore(Protocol):
    """The contract; `tests/adapters` holds every implementation to it.

    Absent keys raise `KeyError`. An object is immutable once committed; writing a key
    again replaces it whole. Reads during a replace see the old or the new object.
    """

    def open_writer(self, key: str) -> ArtifactWriter: ...

    def put_file(self, key: str, path: Path) -> Stored: ...

    def read(self, key: str) -> Iterator[bytes]:
        """The object in chunks of at most 1 MiB; `KeyError` at the call, not at the first chunk."""
        ...

    def fetch(self, key: str, path: Path, *, sha256: str) -> None:
        """Copy the object to `path` (atomically) and check its hash; `ValueError` on a mismatch."""
        ...

    def size(self, key: str) -> int: ...

    def delete(self, key: str) -> None:
        """Remove the object; an absent key is fine."""
        ...

    def delete_prefix(self, prefix: str) -> None: ...

    def check(self) -> None:
        """Raise `OSError` if the store cannot be used right now; for the readiness probe."""
        ...
