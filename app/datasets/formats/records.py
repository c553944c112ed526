"""Records of a CSV or TSV file (RFC 4180), one at a time, each with the line it begins on and what is wrong with it.

The standard library's parser does the reading, strictly. What it cannot say is added here: which lines make a
record, what to do with bytes that are no text, and how to go on after a quote that never closes.
"""

import csv
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from app.datasets.formats.lines import MAX_LINE_BYTES, LineFault, RawLine, decode

# So many times lines are read again after a broken record, so that one open quote hides no other row. Bounded:
# a file made to break everywhere must not cost the square of its length.
_REREADS = 100
# An open quote may swallow lines without end, however short they are.
MAX_RECORD_LINES = 20_000


@dataclass
class Record:
    """`cells` is None if the record cannot be told from what follows it."""

    line: int
    cells: list[str] | None
    faults: list[tuple[int, LineFault]] = field(default_factory=list)
    """Each with its line, which need not be the first."""


class _RecordTooLong(Exception):  # noqa: N818 - never leaves this module
    pass


class _Feed:
    """Lines for the parser, which remembers what the current record was made of."""

    def __init__(self, lines: Iterator[RawLine]) -> None:
        self._lines = lines
        self._again: deque[RawLine] = deque()
        self.record: list[RawLine] = []
        self.faults: list[tuple[int, LineFault]] = []
        self._bytes = 0

    def begin(self) -> None:
        self.record, self.faults, self._bytes = [], [], 0

    def read_again(self) -> None:
        """Give all lines of the record but its first once more."""
        self._again.extendleft(reversed(self.record[1:]))

    def __iter__(self) -> "_Feed":
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else next(self._lines)
        self.record.append(line)
        self._bytes += len(line.content or b"") + 1
        if line.content is None or self._bytes > MAX_LINE_BYTES or len(self.record) > MAX_RECORD_LINES:
            raise _RecordTooLong
        try:
            return decode(line, allows_bom=True) + "\n"
        except LineFault as fault:
            self.faults.append((line.number, fault))
            # The record's shape is kept; it is not used.
            return line.content.decode("utf-8", errors="replace").replace("\x00", "\ufffd") + "\n"


def parse_records(lines: Iterator[RawLine], delimiter: str) -> Iterator[Record]:
    r"""All records that hold anything. Line ends inside cells come as \n."""
    # The limit is the process's own; a cell may be as long as a record.
    csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE_BYTES))
    feed = _Feed(lines)
    reader = csv.reader(feed, delimiter=delimiter, strict=True)
    rereads = _REREADS
    while True:
        feed.begin()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except (csv.Error, _RecordTooLong) as error:
            first = feed.record[0].number
            yield Record(first, None, feed.faults or [(first, _fault(error, feed.record))])
            if len(feed.record) > 1 and rereads:
                rereads -= 1
                feed.read_again()
            continue
        if any(cell.strip() for cell in cells) or feed.faults:
            yield Record(feed.record[0].number, [cell.replace("\r\n", "\n") for cell in cells], feed.faults)


def _fault(error: Exception, record: list[RawLine]) -> LineFault:
    if isinstance(error, _RecordTooLong):
        if len(record) == 1:
            return LineFault("line_too_long", f"is longer than {MAX_LINE_BYTES:,} bytes")
        return LineFault(
            "line_too_long",
            f'is longer than {MAX_LINE_BYTES:,} bytes or {MAX_RECORD_LINES:,} lines: is a quote " left open?',
        )
    text = str(error)
    if "unexpected end of data" in text:
        return LineFault("invalid_csv", 'opens a cell with a quote " that is never closed')
    if "expected after" in text:
        return LineFault(
            "invalid_csv",
            f'has text behind the closing quote " of a cell (line {record[-1].number}). '
            'Write a quote inside a cell as two quotes ""',
        )
    if "new-line character" in text:
        return LineFault("invalid_csv", r"holds a carriage return outside quotes. End lines with \n or \r\n")
    return LineFault("invalid_csv", f"cannot be parsed. Error: {text}")
