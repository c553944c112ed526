"""What is remembered of a row once it has been read: enough to split, to count and to warn, but no text."""

import hashlib
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from app.contracts.rows import ChatMessage, ChatRow, LabelledText, PreferenceRow, Row, TaggedText, TextPair
from app.datasets.labels import label_candidate

_HASH_BYTES = 16
# With typographic quotes, dots and dashes. A hyphen counts as punctuation between letters only.
_PUNCTUATION = re.compile(r"[.,;:!?¿¡'\"\u2018\u2019\u201c\u201d\u2026\u2013\u2014]|(?<=[^\W\d_])-(?=[^\W\d_])")


@dataclass(frozen=True, slots=True)
class RowFacts:
    """Some 320 bytes a row."""

    line: int
    prompt_hash: bytes
    """Of what the model is given: everything before the final answer."""
    group_hash: bytes
    """Of the same, `normalized`. Rows that share it stay on one side of a split."""
    row_hash: bytes
    """Of the whole row."""
    answer: str | None = None
    """Chat: the final answer where it is short enough to be a label."""
    labels: tuple[str, ...] = ()
    """Classification: the distinct labels or entity types, sorted."""


def facts_of(row: Row) -> RowFacts:
    prompt, answer = _parts(row)
    return RowFacts(
        line=row.line,
        prompt_hash=_hash(prompt),
        group_hash=_hash(_normalized(prompt)),
        row_hash=_hash([prompt, answer]),
        answer=label_candidate(row) if isinstance(row, ChatRow) else None,
        labels=_labels(row),
    )


def normalized(text: str) -> str:
    """Without the differences that make no other text: case, white space, the punctuation of sentences.

    Signs that carry a meaning of their own (+ - * / % # @ emoji) stay.
    """
    folded = text.casefold()
    return " ".join(_PUNCTUATION.sub(" ", folded).split()) or " ".join(folded.split())


def _parts(row: Row) -> tuple[Any, Any]:
    """What the model is given, and what it is to answer; as JSON values."""
    match row:
        case ChatRow():
            return _messages(row.messages[:-1]), _messages(row.messages[-1:])
        case PreferenceRow():
            return _messages(row.messages), _messages((row.preferred, row.non_preferred))
        case LabelledText():
            return row.text, sorted(row.labels)
        case TaggedText():
            return row.text, [[span.start, span.end, span.label] for span in row.spans]
        case TextPair():
            return row.source, row.target


def _messages(messages: Sequence[ChatMessage]) -> list[list[Any]]:
    return [[m.role, m.content, m.name, m.tool_calls, m.tool_call_id] for m in messages]


def _labels(row: Row) -> tuple[str, ...]:
    if isinstance(row, LabelledText):
        return tuple(sorted(map(sys.intern, row.labels)))
    if isinstance(row, TaggedText):
        return tuple(sorted({sys.intern(span.label) for span in row.spans}))
    return ()


def _normalized(value: Any) -> Any:
    """All texts of a JSON value normalised."""
    if isinstance(value, str):
        return normalized(value)
    if isinstance(value, list | tuple):
        return [_normalized(item) for item in value]
    return value


def _hash(value: Any) -> bytes:
    """128 bits of SHA-256."""
    text = json.dumps(value, ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(text.encode()).digest()[:_HASH_BYTES]
