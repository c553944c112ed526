"""The audit log's hash chain: what is hashed, and how a broken row is found and named.

Every team has its own chain, numbered from 1 without gaps; a row's hash covers its content and the hash before it. Who
may write to the database as its superuser can rewrite a whole chain, so a head that was exported earlier is what proves
that nothing before it was changed (Haber and Stornetta, How to Time-Stamp a Digital Document, 1991).
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

INSTALLATION = "installation"
"""The chain of what belongs to no team: base models, the pool."""
GENESIS = "0" * 64
"""What the first row of a chain names as its predecessor."""
_MOST_FAULTS = 100


@dataclass(frozen=True)
class Entry:
    """One event with its place in the chain. `at` is aware."""

    team: str
    sequence: int
    at: datetime
    actor: str
    action: str
    object_id: str
    data: dict[str, Any]
    previous_sha256: str
    sha256: str = ""


@dataclass(frozen=True)
class Head:
    """The newest row of a chain: its number (0: no row) and hash."""

    team: str
    sequence: int = 0
    sha256: str = GENESIS


@dataclass(frozen=True)
class Fault:
    """A broken place of a chain: the number of the row, what happened to it, and how that is known."""

    sequence: int
    kind: str
    """changed, missing, swapped, truncated or added"""
    message: str


@dataclass(frozen=True)
class Verdict:
    """What a check of a chain found; `head` is the last row that was read."""

    checked: int
    head: Head
    faults: tuple[Fault, ...]


def entry_sha256(entry: Entry) -> str:
    """The hash that belongs to this content at this place: lower-case hexadecimal."""
    text = canonical_json(
        {
            "team": entry.team,
            "sequence": entry.sequence,
            "at": entry.at.astimezone(UTC).isoformat(timespec="microseconds"),
            "actor": entry.actor,
            "action": entry.action,
            "object_id": entry.object_id,
            "data": entry.data,
            "previous": entry.previous_sha256,
        }
    )
    return hashlib.sha256(text.encode()).hexdigest()


def canonical_json(value: Any) -> str:
    """One text for one value, whichever way it came: sorted names, no spaces, numbers written out in decimal.

    Postgres keeps a JSON number as a decimal and gives 1e20 back as an integer; so 1.0, 1 and 1e0 are one text here.
    """
    if isinstance(value, dict):
        members = sorted((str(name), member) for name, member in value.items())
        inner = ",".join(f"{json.dumps(name, ensure_ascii=False)}:{canonical_json(member)}" for name, member in members)
        return f"{{{inner}}}"
    if isinstance(value, list | tuple):
        return f"[{','.join(canonical_json(member) for member in value)}]"
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, int | float):
        text = format(Decimal(repr(value)), "f")
        text = text.rstrip("0").rstrip(".") if "." in text else text
        return "0" if text == "-0" else text
    return json.dumps(value, ensure_ascii=False)


def verify(entries: Iterable[Entry], *, start: Head, heads: Iterable[Head] = (), is_whole: bool = True) -> Verdict:
    """Check rows that follow `start`, in the order of their numbers; at most 100 faults are named.

    `heads` are what the chain must lead to: the one beside it in the database, and any that was exported. With
    `is_whole` the rows end where the chain ends, so a head beyond them means that rows were cut off.
    """
    wanted: dict[int, list[Head]] = {}
    for head in heads:
        if head.sequence > start.sequence:
            wanted.setdefault(head.sequence, []).append(head)
    seen = start
    faults: list[Fault] = []
    broken: list[Entry] = []
    checked = 0
    for entry in entries:
        checked += 1
        faults += _gap(seen, entry)
        follows = entry.sequence == seen.sequence + 1
        # Of an entry whose own hash is right, the named predecessor is what was there when it was written.
        if entry.team != start.team or entry_sha256(entry) != entry.sha256:
            broken.append(entry)
        elif follows and entry.previous_sha256 != seen.sha256 and not _is_named(broken, seen.sequence):
            faults.append(_rewritten(seen.sequence))
        if any(head.sha256 != entry.sha256 for head in wanted.pop(entry.sequence, [])):
            faults.append(Fault(entry.sequence, "changed", f"row {entry.sequence} is not the one its head was made of"))
        seen = Head(start.team, entry.sequence, entry.sha256)
    faults += _classified(broken)
    if is_whole:
        faults += [_truncated(seen.sequence, most) for most in sorted(wanted)[-1:]]
    unique = {(fault.sequence, fault.kind): fault for fault in reversed(faults)}
    ordered = sorted(unique.values(), key=lambda fault: fault.sequence)
    return Verdict(checked, seen, tuple(ordered[:_MOST_FAULTS]))


def _gap(seen: Head, entry: Entry) -> Iterator[Fault]:
    first, last = seen.sequence + 1, entry.sequence - 1
    if entry.sequence <= seen.sequence:
        yield Fault(entry.sequence, "added", f"row {entry.sequence} is there more than once")
    elif first == last:
        yield Fault(first, "missing", f"row {first} is missing")
    elif first < last:
        yield Fault(first, "missing", f"rows {first} to {last} are missing")


def _is_named(broken: list[Entry], sequence: int) -> bool:
    return bool(broken) and broken[-1].sequence == sequence


def _rewritten(sequence: int) -> Fault:
    if sequence == 0:
        return Fault(1, "changed", "row 1 does not begin the chain")
    return Fault(sequence, "changed", f"row {sequence} was rewritten: row {sequence + 1} was made after another one")


def _truncated(last: int, most: int) -> Fault:
    return Fault(last + 1, "truncated", f"the chain ends at row {last}, and its head says that it had {most} rows")


def _classified(broken: list[Entry]) -> Iterator[Fault]:
    """Rows whose own hash is wrong: two that carry each other's numbers were swapped, the others changed."""
    swapped: set[int] = set()
    for one in broken[:_MOST_FAULTS]:
        for other in broken[:_MOST_FAULTS]:
            if one is not other and entry_sha256(replace(one, sequence=other.sequence)) == one.sha256:
                swapped |= {one.sequence, other.sequence}
                places = sorted((one.sequence, other.sequence))
                yield Fault(places[0], "swapped", f"rows {places[0]} and {places[1]} changed places")
    for entry in broken:
        if entry.sequence not in swapped:
            yield Fault(entry.sequence, "changed", f"the content of row {entry.sequence} does not have its hash")
