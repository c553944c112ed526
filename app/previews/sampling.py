"""Which rows of a file are shown, and what is counted on the way; pure."""

import heapq
import random
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from app.contracts.rows import LabelledText, Row, TaggedText
from app.datasets.parsing import FileReader
from app.datasets.report import Fault, Format
from app.datasets.tasks import Method, Task

Sample = Literal["head", "longest", "random"]
MAX_LISTED_FAULTS = 20
# A preview is read while somebody waits: some seconds of parsing, and an answer a terminal can take.
MAX_READ_BYTES = 64 * 2**20
MAX_SHOWN_BYTES = 4 * 2**20


@dataclass(frozen=True)
class Wish:
    """Up to `limit` rows from `start_line` on: the first, the longest, or some drawn with `seed`."""

    limit: int
    sample: Sample = "head"
    start_line: int = 1
    seed: int = 0
    task: Task | None = None
    method: Method | None = None


@dataclass
class FileSample:
    """The rows to show (`longest`: longest first, else by line), and the counts of all that was read."""

    rows: list[Row] = field(default_factory=list)
    format: Format | None = None
    refused: Format | None = None
    """The file holds such rows, which the wished task or method does not train on."""
    examples: int = 0
    faulty: int = 0
    faults: list[Fault] = field(default_factory=list)
    fault_counts: Counter[str] = field(default_factory=Counter)
    labels: set[str] = field(default_factory=set)
    is_multi_label: bool = False
    is_whole: bool = True

    def note_labels(self, row: Row) -> None:
        """What a classifier of this file would have to tell apart."""
        if isinstance(row, LabelledText):
            self.labels.update(row.labels)
            self.is_multi_label = self.is_multi_label or len(row.labels) != 1
        elif isinstance(row, TaggedText):
            self.labels.update(span.label for span in row.spans)


def sample_file(filename: str, chunks: Iterable[bytes], wish: Wish) -> FileSample:
    """One pass. Memory: the rows to show; of rows sized in megabytes fewer are kept than were wished for."""
    found = FileSample()
    reader = FileReader(filename=filename, task=wish.task, method=wish.method)
    chosen = _choose(_good_rows(reader, _beginning(chunks, found), found), wish)
    found.rows = list(_within_budget(chosen))
    # What is wrong with a header is a fault of no example.
    found.format, found.refused, found.examples = reader.format, reader.refused, max(reader.examples, found.faulty)
    return found


def _beginning(chunks: Iterable[bytes], found: FileSample) -> Iterator[bytes]:
    """The bytes up to the end of the line that reaches `MAX_READ_BYTES`."""
    left = MAX_READ_BYTES
    rest = iter(chunks)
    for chunk in rest:
        end = chunk.find(b"\n", max(left, 0)) + 1 if len(chunk) > left else 0
        if end:
            yield chunk[:end]
            found.is_whole = end == len(chunk) and next(rest, None) is None
            return
        left -= len(chunk)
        yield chunk


def _good_rows(reader: FileReader, chunks: Iterable[bytes], found: FileSample) -> Iterator[Row]:
    last_faulty: int | None = None
    for item in reader.read(chunks):
        if not isinstance(item, Fault):
            found.note_labels(item)
            yield item
            continue
        found.fault_counts[item.check] += 1
        found.faulty += reader.examples != last_faulty
        last_faulty = reader.examples
        if len(found.faults) < MAX_LISTED_FAULTS:
            found.faults.append(item)


def _choose(rows: Iterator[Row], wish: Wish) -> list[Row]:
    """Reads all rows to the end: the counts are of the whole file."""
    wanted = (row for row in rows if row.line >= wish.start_line)
    match wish.sample:
        case "head":
            first = [row for row, _ in zip(wanted, range(wish.limit), strict=False)]
            for _ in rows:
                pass
            return first
        case "longest":
            return heapq.nlargest(wish.limit, wanted, key=lambda row: len(row.model_dump_json()))
        case "random":
            return sorted(_draw(wanted, wish), key=lambda row: row.line)


def _draw(rows: Iterator[Row], wish: Wish) -> list[Row]:
    """Every row with the same chance (Vitter 1985, algorithm R)."""
    source = random.Random(wish.seed)  # noqa: S311 — a sample to look at, the same for the same seed
    drawn: list[Row] = []
    for seen, row in enumerate(rows):
        if seen < wish.limit:
            drawn.append(row)
        elif (place := source.randrange(seen + 1)) < wish.limit:
            drawn[place] = row
    return drawn


def _within_budget(rows: list[Row]) -> Iterator[Row]:
    """Rows from the first on, as many as `MAX_SHOWN_BYTES` hold, at least one."""
    spent = 0
    for place, row in enumerate(rows):
        spent += len(row.model_dump_json())
        if place and spent > MAX_SHOWN_BYTES:
            return
        yield row
