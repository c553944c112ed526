"""Which rows are held out when no validation file is given: a pure function of the rows' contents.

The rows whose prompts have the smallest SHA-256 are held out, so the choice depends on nothing but the
data (not on their order, not on a seed), and rows with equal prompts stay on one side.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from app.contracts.rows import ChatMessage, ChatRow

HELDOUT_FRACTION = 0.1


@dataclass(frozen=True, slots=True)
class RowFacts:
    """What is remembered of a row once it has been read."""

    line: int
    prompt_hash: bytes
    row_hash: bytes
    answer: str | None
    """The final answer where it is short enough to be a label."""


def prompt_hash(row: ChatRow) -> bytes:
    """SHA-256 of everything before the final assistant message."""
    return _hash(row.messages[:-1])


def row_hash(row: ChatRow) -> bytes:
    """SHA-256 of the whole conversation."""
    return _hash(row.messages)


def heldout_count(rows: int) -> int:
    """How many rows to hold out: a tenth, at least one."""
    return max(1, round(HELDOUT_FRACTION * rows))


def choose_heldout(rows: Sequence[RowFacts]) -> tuple[frozenset[int], bool]:
    """Lines to hold out, and whether prompts decided.

    Groups of equal prompts are taken by ascending hash until there are enough rows; a group that would
    more than double the wanted number is passed over (one prompt repeated everywhere must not empty the
    training side). If every group is so large, single rows are chosen by their whole contents instead: False.
    """
    wanted = heldout_count(len(rows))
    sizes = Counter(row.prompt_hash for row in rows)
    chosen: set[bytes] = set()
    taken = 0
    for digest in sorted(sizes):
        if taken >= wanted:
            break
        if taken + sizes[digest] <= min(2 * wanted, len(rows) - 1):
            chosen.add(digest)
            taken += sizes[digest]
    if chosen:
        return frozenset(row.line for row in rows if row.prompt_hash in chosen), True
    by_contents = sorted(rows, key=lambda row: (row.row_hash, row.line))
    return frozenset(row.line for row in by_contents[:wanted]), False


def leaked(train: Sequence[RowFacts], heldout: Sequence[RowFacts]) -> int:
    """Held-out rows whose prompt is in the training rows too."""
    seen = {row.prompt_hash for row in train}
    return sum(row.prompt_hash in seen for row in heldout)


def _hash(messages: Sequence[ChatMessage]) -> bytes:
    parts = [[m.role, m.content, m.name, m.tool_calls, m.tool_call_id] for m in messages]
    return hashlib.sha256(json.dumps(parts, ensure_ascii=False, sort_keys=True).encode()).digest()
