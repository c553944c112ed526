"""Reads one file to its end: what it holds, what is wrong with it, and the facts of each row."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from app.datasets.labels import label_candidate
from app.datasets.parsing import FileReader
from app.datasets.report import MAX_LISTED_FAULTS, Fault, FileReport
from app.datasets.source import SourceFile
from app.datasets.split import RowFacts, prompt_hash, row_hash


@dataclass(frozen=True)
class FileFinding:
    """A file's report with what the split needs to know of its rows."""

    report: FileReport
    rows: list[RowFacts]


def read_file(source: SourceFile, chunks: Iterable[bytes]) -> FileFinding:
    """One pass over the bytes; memory grows by some 200 bytes a row."""
    reader = FileReader()
    rows: list[RowFacts] = []
    listed: list[Fault] = []
    counts: Counter[str] = Counter()
    for item in reader.read(chunks):
        if isinstance(item, Fault):
            counts[item.check] += 1
            if len(listed) < MAX_LISTED_FAULTS:
                listed.append(item)
            continue
        rows.append(
            RowFacts(
                line=item.line, prompt_hash=prompt_hash(item), row_hash=row_hash(item), answer=label_candidate(item)
            )
        )
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
        refusal=_preference_refusal(source) if reader.is_preference else None,
    )
    return FileFinding(report, rows)


def _preference_refusal(source: SourceFile) -> str:
    return (
        f"Input file {source.file_id} is in the fine-tune-preference format, but the specified fine-tuning job "
        "is not using 'dpo' as the training method (provided method=supervised)."
    )
