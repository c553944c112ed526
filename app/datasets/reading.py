"""Reads one file to its end: what it holds, what is wrong with it, and the facts of each row."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from app.contracts.rows import PreferenceRow, Row, TextPair
from app.datasets.facts import RowFacts, facts_of
from app.datasets.formats.columns import UNDERSTOOD
from app.datasets.parsing import FileReader
from app.datasets.report import MAX_LISTED_FAULTS, Fault, FileReport, Format
from app.datasets.source import SourceFile
from app.datasets.tasks import Method, Task, format_of, task_of, wire_name


@dataclass(frozen=True)
class Wanted:
    """What the job needs: rows for its task (None: any) and method."""

    task: Task | None = None
    method: Method = "supervised"

    def reader(self, source: SourceFile) -> FileReader:
        return FileReader(filename=source.filename, task=self.task, method=self.method)


@dataclass(frozen=True)
class FileFinding:
    """A file's report with what the split needs to know of its rows."""

    report: FileReport
    rows: list[RowFacts]
    is_broken_off: bool
    """The bytes were not read to their end."""
    equal_answers: int = 0
    """Preference rows whose two answers are the same."""
    long_targets: int = 0
    """Text pairs whose target is longer than their source."""


def read_file(source: SourceFile, chunks: Iterable[bytes], wanted: Wanted) -> FileFinding:
    """One pass over the bytes; memory grows by some 320 bytes a row."""
    reader = wanted.reader(source)
    rows: list[RowFacts] = []
    listed: list[Fault] = []
    counts: Counter[str] = Counter()
    oddities: Counter[str] = Counter()
    for item in reader.read(chunks):
        if isinstance(item, Fault):
            counts[item.check] += 1
            if len(listed) < MAX_LISTED_FAULTS:
                listed.append(item)
            continue
        rows.append(facts_of(item))
        oddities.update(_oddities(item))
    report = FileReport(
        file_id=source.file_id,
        filename=source.filename,
        bytes=source.bytes,
        sha256=source.sha256,
        format=reader.format,
        examples=reader.examples,
        good=len(rows),
        faults=tuple(listed),
        fault_count=counts.total(),
        fault_counts=dict(counts),
        refusal=None if reader.refused is None else refusal(source.file_id, reader.refused, wanted),
        ignored_columns=reader.ignored_columns,
    )
    return FileFinding(report, rows, reader.is_broken_off, oddities["equal_answers"], oddities["long_targets"])


def _oddities(row: Row) -> list[str]:
    if isinstance(row, PreferenceRow) and row.preferred == row.non_preferred:
        return ["equal_answers"]
    if isinstance(row, TextPair) and len(row.target) > len(row.source):
        return ["long_targets"]
    return []


def refusal(file_id: str, found: Format, wanted: Wanted) -> str:
    """Why the whole file is of no use to the job: its task first, then its method, in OpenAI's words."""
    if wanted.task is not None and task_of(found) != wanted.task:
        one = format_of(wanted.task)
        needed = UNDERSTOOD[one] if one else f"{UNDERSTOOD['chat']}, or {UNDERSTOOD['completion']}"
        return (
            f"Input file {file_id} holds {wire_name(found)} rows, but the job's task is '{wanted.task.value}', "
            f"which needs {needed}. Give such a file, or the task '{task_of(found).value}'."
        )
    if found == "preference":
        return (
            f"Input file {file_id} is in the fine-tune-preference format, but the specified fine-tuning job "
            f"is not using 'dpo' as the training method (provided method={wanted.method})."
        )
    return (
        f"Input file {file_id} is in the fine-tune-{wire_name(found)} format, but the specified fine-tuning job "
        f"is not using 'supervised' as the training method (provided method={wanted.method})."
    )
