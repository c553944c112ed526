"""Reading datasets: find every fault before a GPU is asked for, then hand the engine canonical rows."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from app.contracts.errors import transient, usage
from app.contracts.rows import ChatRow
from app.datasets.parsing import FileReader
from app.datasets.reading import FileFinding, read_file
from app.datasets.report import DatasetReport, Fault, PreparedDataset
from app.datasets.source import SourceFile
from app.datasets.split import choose_heldout
from app.datasets.validation import assess
from app.db.tables import File
from app.errors import NotFound
from app.files.service import FileService

_CHUNK_BYTES = 1 << 20


class DatasetService:
    """Inspection and preparation share one path through the bytes. Neither touches the database."""

    def __init__(self, files: FileService) -> None:
        self._files = files

    def inspect(self, training_file: SourceFile, validation_file: SourceFile | None) -> DatasetReport:
        """Read everything once. Faults are in the report, not raised.

        `WorkerFailure` (transient) if the bytes cannot be read or are not those that were stored.
        """
        return assess(
            self._read_stored(training_file),
            None if validation_file is None else self._read_stored(validation_file),
        )

    def prepare(self, training_file: SourceFile, validation_file: SourceFile | None, folder: Path) -> PreparedDataset:
        """Write `train.jsonl` and `heldout.jsonl` (canonical rows) into `folder`, which must exist.

        `WorkerFailure` (usage) if the data are faulty, (transient) if the bytes cannot be fetched.
        """
        raw_training = self._fetch(training_file, folder / "training.raw")
        raw_validation = None if validation_file is None else self._fetch(validation_file, folder / "validation.raw")
        training = read_file(training_file, _chunks(raw_training))
        validation = (
            None
            if validation_file is None or raw_validation is None
            else read_file(validation_file, _chunks(raw_validation))
        )
        report = assess(training, validation)
        if report.error is not None:
            raise usage(report.error.code, report.error.message, param=report.error.param)
        train, heldout = folder / "train.jsonl", folder / "heldout.jsonl"
        if raw_validation is None:
            lines, _ = choose_heldout(training.rows)
            train_sha256, train_rows = _write(raw_training, train, skip=lines)
            heldout_sha256, heldout_rows = _write(raw_training, heldout, only=lines)
        else:
            train_sha256, train_rows = _write(raw_training, train)
            heldout_sha256, heldout_rows = _write(raw_validation, heldout)
            raw_validation.unlink()
        raw_training.unlink()
        return PreparedDataset(
            train_path=str(train),
            train_sha256=train_sha256,
            train_rows=train_rows,
            heldout_path=str(heldout),
            heldout_sha256=heldout_sha256,
            heldout_rows=heldout_rows,
            labels=report.labels,
            is_completion=report.format == "completion",
        )

    def _read_stored(self, source: SourceFile) -> FileFinding:
        digest = hashlib.sha256()

        def hashed(chunks: Iterator[bytes]) -> Iterator[bytes]:
            for chunk in chunks:
                digest.update(chunk)
                yield chunk

        try:
            finding = read_file(source, hashed(self._files.open(_as_file(source))))
        except (NotFound, OSError) as error:
            raise transient("file_unreadable", f"The bytes of {source.file_id} could not be read: {error}") from error
        # Preference data are refused at their first row, before the end of the bytes.
        if finding.report.refusal is None and digest.hexdigest() != source.sha256:
            raise transient("file_damaged", f"The bytes of {source.file_id} are not those that were uploaded.")
        return finding

    def _fetch(self, source: SourceFile, path: Path) -> Path:
        try:
            self._files.fetch(_as_file(source), path)
        except (KeyError, OSError, ValueError) as error:
            raise transient("file_unreadable", f"The bytes of {source.file_id} could not be read: {error}") from error
        return path


def _as_file(source: SourceFile) -> File:
    """The row as `FileService` wants it; belongs to no session and is never saved."""
    return File(id=source.file_id, sha256=source.sha256, artifact_key=source.artifact_key)


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk


def _write(
    raw: Path, path: Path, *, only: frozenset[int] | None = None, skip: frozenset[int] = frozenset()
) -> tuple[str, int]:
    """Canonical rows of `raw` whose lines are wanted; the SHA-256 of what was written, and how many."""
    digest = hashlib.sha256()
    rows = 0
    with path.open("wb") as file:
        for row in FileReader().read(_chunks(raw)):
            if isinstance(row, Fault) or row.line in skip or (only is not None and row.line not in only):
                continue
            digest.update(_write_row(file, row))
            rows += 1
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest(), rows


def _write_row(file: BinaryIO, row: ChatRow) -> bytes:
    line = row.model_dump_json().encode() + b"\n"
    file.write(line)
    return line
