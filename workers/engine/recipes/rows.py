"""Canonical rows from disk: the bytes the spec names, all of one kind."""

import hashlib
from pathlib import Path

from pydantic import ValidationError

from app.contracts.errors import fatal, transient
from app.contracts.rows import Row, row_adapter


def read_rows(path: Path, kind: str, sha256: str | None = None) -> tuple[Row, ...]:
    """Rows of a file; a transient failure when its bytes are not those the spec names, fatal for another kind."""
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if sha256 is not None and found != sha256:
        raise transient("rows_hash_mismatch", f"The rows file {path.name} has hash {found}, not {sha256}.")
    try:
        rows = tuple(row_adapter.validate_json(line) for line in data.split(b"\n") if line.strip())
    except ValidationError as error:
        raise transient("rows_damaged", f"The rows file {path.name} is no canonical rows file: {error}") from error
    other = next((row for row in rows if row.kind != kind), None)
    if other is not None:
        raise fatal("rows_of_another_kind", f"The rows file {path.name} holds {other.kind} rows, not {kind} rows.")
    return rows
