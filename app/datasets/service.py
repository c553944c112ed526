"""Reading datasets: find every fault before a GPU is asked for, then hand the engine canonical rows."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from app.contracts.errors import storage_failure, transient, usage
from app.contracts.rows import Row
from app.datasets.reading import FileFinding, Wanted, read_file
from app.datasets.report import DatasetReport, Fault, PreparedDataset
from app.datasets.source import SourceFile
from app.datasets.tasks import Method, Task
from app.datasets.validation import assess
from app.datasets.writing import write_sides
from app.db.tables import File
from app.errors import NotFound
from app.files.service import FileService

_CHUNK_BYTES = 1 << 20


class DatasetService:
    """Inspection and preparation share one path through the bytes. Neither touches the database.

    `task` and `method` are the job's: files of other rows are refused in the report's `error`. `task` None takes the
    kind from the rows. `wants_selection` False leaves all rows of the training file to train or to be held out. The
    same arguments give the same split in both.
    """

    def __init__(self, files: FileService) -> None:
        self._files = files

    def inspect(
        self,
        training_file: SourceFile,
        validation_file: SourceFile | None,
        *,
        task: str | None = None,
        method: Method = "supervised",
        wants_selection: bool = True,
    ) -> DatasetReport:
        """Read everything once. Faults are in the report, not raised.

        `WorkerFailure` (transient) if the bytes cannot be read or are not those that were stored.
        """
        wanted = Wanted(None if task is None else Task(task), method)
        return assess(
            self._read_stored(training_file, wanted),
            None if validation_file is None else self._read_stored(validation_file, wanted),
            wants_selection=wants_selection,
        ).report

    def prepare(
        self,
        training_file: SourceFile,
        validation_file: SourceFile | None,
        folder: Path,
        *,
        task: str | None = None,
        method: Method = "supervised",
        wants_selection: bool = True,
    ) -> PreparedDataset:
        """Write `train.jsonl`, `selection.jsonl` and `heldout.jsonl` (canonical rows) into `folder`, which must exist.

        `WorkerFailure` (usage) if the data are faulty, (transient) if the bytes cannot be fetched.
        """
        wanted = Wanted(None if task is None else Task(task), method)
        raw_training = self._fetch(training_file, folder / "training.raw")
        raw_validation = None if validation_file is None else self._fetch(validation_file, folder / "validation.raw")
        assessment = assess(
            read_file(training_file, _chunks(raw_training), wanted),
            None
            if validation_file is None or raw_validation is None
            else read_file(validation_file, _chunks(raw_validation), wanted),
            wants_selection=wants_selection,
        )
        report, division = assessment.report, assessment.division
        if report.error is not None:
            raise usage(report.error.code, report.error.message, param=report.error.param)
        assert division is not None and report.recipe is not None  # noqa: S101, PT018 - there is no error
        sides = write_sides(
            division,
            _rows(raw_training, training_file, wanted),
            None
            if validation_file is None or raw_validation is None
            else _rows(raw_validation, validation_file, wanted),
            folder,
        )
        for raw in (raw_training, raw_validation):
            if raw is not None:
                raw.unlink()
        has_selection = sides.selection.rows > 0
        return PreparedDataset(
            recipe=report.recipe,
            train_path=str(sides.train.path),
            train_sha256=sides.train.sha256,
            train_rows=sides.train.rows,
            selection_path=str(sides.selection.path) if has_selection else None,
            selection_sha256=sides.selection.sha256 if has_selection else None,
            selection_rows=sides.selection.rows,
            heldout_path=str(sides.heldout.path),
            heldout_sha256=sides.heldout.sha256,
            heldout_rows=sides.heldout.rows,
            leaked_lines=division.leaked_lines,
            labels=report.labels,
            is_multi_label=report.is_multi_label,
            is_completion=report.format == "completion",
        )

    def _read_stored(self, source: SourceFile, wanted: Wanted) -> FileFinding:
        digest = hashlib.sha256()

        def hashed(chunks: Iterator[bytes]) -> Iterator[bytes]:
            for chunk in chunks:
                digest.update(chunk)
                yield chunk

        try:
            finding = read_file(source, hashed(self._files.open(_as_file(source))), wanted)
        except (NotFound, OSError) as error:
            raise transient("file_unreadable", f"The bytes of {source.file_id} could not be read: {error}") from error
        # Files of another kind, and tables without a header, are given up before the end of the bytes.
        if not finding.is_broken_off and digest.hexdigest() != source.sha256:
            raise transient("file_damaged", f"The bytes of {source.file_id} are not those that were uploaded.")
        return finding

    def _fetch(self, source: SourceFile, path: Path) -> Path:
        try:
            self._files.fetch(_as_file(source), path)
        except (KeyError, OSError, ValueError) as error:
            message = f"The bytes of {source.file_id} could not be read: {error}"
            raise storage_failure(error, "file_unreadable", message) from error
        return path


def _as_file(source: SourceFile) -> File:
    """The row as `FileService` wants it; belongs to no session and is never saved."""
    return File(id=source.file_id, sha256=source.sha256, artifact_key=source.artifact_key)


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk


def _rows(path: Path, source: SourceFile, wanted: Wanted) -> Iterator[Row]:
    """The rows of a file in which no fault was found."""
    for item in wanted.reader(source).read(_chunks(path)):
        if not isinstance(item, Fault):
            yield item
