"""The audit log outside of the database: rows and heads as lines of JSON, and their check without a service."""

import json
from array import array
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from app.audit.chain import Entry, Fault, Head, Verdict, verify


class UnreadableExport(Exception):  # noqa: N818 - what the file is
    """A line is not a row of an audit log; the message names the line."""


def entry_line(entry: Entry) -> str:
    """One row as a line of JSON, without the line's end."""
    value = {**entry.__dict__, "at": entry.at.astimezone(UTC).isoformat(timespec="microseconds")}
    return json.dumps(value, ensure_ascii=False)


def read_entry(line: bytes) -> Entry:
    """What `entry_line` wrote. Raises `ValueError`, `KeyError` or `TypeError` for anything else."""
    value = json.loads(line)
    moment = datetime.fromisoformat(value.pop("at"))
    entry = Entry(at=moment, **value)
    if not isinstance(entry.sequence, int) or not isinstance(entry.data, dict) or moment.tzinfo is None:
        raise TypeError(line)
    return entry


def read_head(value: Any) -> Head:
    """A head as the service or `tunesmith audit head` gives it."""
    return Head(team=str(value["team"]), sequence=int(value["sequence"]), sha256=str(value["sha256"]))


def verify_file(path: Path, heads: Iterable[Head] = ()) -> Verdict:
    """Check an export of one team's whole chain, of any size; only the places of its lines are kept in memory.

    `UnreadableExport` for a line that is no row.
    """
    sequences, offsets, team = _places(path)
    in_order = sorted(range(len(sequences)), key=sequences.__getitem__)
    moved = [line for line, other in enumerate(in_order) if line != other]
    with path.open("rb") as lines:

        def entries() -> Iterator[Entry]:
            for line in in_order:
                lines.seek(offsets[line])
                yield read_entry(lines.readline())

        verdict = verify(entries(), start=Head(team), heads=[head for head in heads if head.team == team])
    faults = [
        Fault(sequences[line], "swapped", f"row {sequences[line]} stands on line {line + 1}, out of its order")
        for line in moved
    ]
    return Verdict(verdict.checked, verdict.head, (*verdict.faults, *faults[:100]))


def _places(path: Path) -> "tuple[array[int], array[int], str]":
    """For each line its row's number and its offset in bytes; and the team of the first row."""
    sequences: array[int] = array("q")
    offsets: array[int] = array("q")
    team = ""
    offset = 0
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                entry = read_entry(line)
            except (ValueError, KeyError, TypeError) as error:
                raise UnreadableExport(f"Line {number} of {path} is not a row of an audit log.") from error
            team = team or entry.team
            sequences.append(entry.sequence)
            offsets.append(offset)
            offset += len(line)
    return sequences, offsets, team
