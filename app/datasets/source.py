"""Which stored file a dataset is read from."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SourceFile:
    """Everything needed to read the bytes without the database."""

    file_id: str
    filename: str
    bytes: int
    sha256: str
    artifact_key: str
