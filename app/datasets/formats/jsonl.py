"""JSON Lines read strictly: split on newlines only, UTF-8, and nothing that a database would trip over."""

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

MAX_LINE_BYTES = 1_000_000
MAX_DEPTH = 32
_BOM = b"\xef\xbb\xbf"
_WIDE_BOMS = (b"\xff\xfe", b"\xfe\xff")
_HINT_CHARACTERS = 20


class LineFault(Exception):  # noqa: N818 - a fault of the user's file, named as in reports
    """A line that is no usable JSON. `check` names the kind of fault, `text` follows the line's name."""

    def __init__(self, check: str, text: str) -> None:
        super().__init__(text)
        self.check = check
        self.text = text


@dataclass(frozen=True)
class RawLine:
    """A line that is not blank. `content` is None if the line is longer than `MAX_LINE_BYTES`."""

    number: int
    content: bytes | None


def split_lines(chunks: Iterable[bytes]) -> Iterator[RawLine]:
    r"""Lines of a byte stream, split on \n alone (U+2028 and its kin are text); blank ones are skipped."""
    number = 1
    kept: list[bytes] = []
    kept_bytes = 0
    for chunk in chunks:
        *endings, rest = chunk.split(b"\n")
        for part in endings:
            yield from _line(number, [*kept, part], kept_bytes + len(part))
            kept, kept_bytes = [], 0
            number += 1
        kept_bytes += len(rest)
        # A line already too long is counted on, not kept: memory stays bounded.
        kept = [*kept, rest] if kept_bytes <= MAX_LINE_BYTES else []
    yield from _line(number, kept, kept_bytes)


def parse_line(line: RawLine) -> Any:
    """The JSON value of a line; `LineFault` if it has none that we accept."""
    if line.content is None:
        raise LineFault("line_too_long", f"is longer than {MAX_LINE_BYTES:,} bytes")
    text = _decode(line)
    try:
        value = json.loads(
            text, object_pairs_hook=_unique_keys, parse_constant=_refuse_constant, parse_float=_finite_float
        )
    except json.JSONDecodeError as error:
        raise LineFault("invalid_json", f"cannot be parsed. Error: line contains invalid json: {error}") from None
    except RecursionError:
        raise LineFault("too_deep", f"is nested deeper than {MAX_DEPTH} levels") from None
    except ValueError as error:  # an integer of thousands of digits
        raise LineFault("invalid_json", f"cannot be parsed. Error: {error}") from None
    if text.count("[") + text.count("{") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
        raise LineFault("too_deep", f"is nested deeper than {MAX_DEPTH} levels")
    if "\\u" in text:
        _check_escapes(value)
    return value


def hint(line: RawLine) -> str:
    """The start of a line, for messages."""
    return (line.content or b"")[:_HINT_CHARACTERS].decode("utf-8", errors="replace")


def _line(number: int, parts: list[bytes], length: int) -> Iterator[RawLine]:
    if length > MAX_LINE_BYTES:
        yield RawLine(number, None)
        return
    content = b"".join(parts)
    if content.strip(b" \t\r"):
        yield RawLine(number, content)


def _decode(line: RawLine) -> str:
    content = line.content or b""
    if line.number == 1 and content.startswith(_BOM):
        raise LineFault(
            "byte_order_mark",
            "starts with a byte order mark (BOM, the bytes EF BB BF). Save the file as UTF-8 without BOM",
        )
    if line.number == 1 and content.startswith(_WIDE_BOMS):
        raise LineFault("invalid_encoding", "starts with a UTF-16 byte order mark. Save the file as UTF-8")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        byte = content[error.start]
        raise LineFault(
            "invalid_encoding", f"is not valid UTF-8: byte 0x{byte:02x} at position {error.start}"
        ) from None
    if "\x00" in text:
        raise LineFault("invalid_character", "contains a NUL character")
    return text


def _check_escapes(value: Any) -> None:
    r"""Escapes can smuggle in what raw UTF-8 cannot: NUL as \u0000 and half surrogate pairs."""
    try:
        plain = json.dumps(value, ensure_ascii=False)
        plain.encode("utf-8")
    except UnicodeEncodeError:
        raise LineFault(
            "invalid_character", "contains half of a surrogate pair (a broken \\ud800-\\udfff escape)"
        ) from None
    if "\\u0000" in plain:
        _refuse_nul(value)


def _refuse_nul(value: Any) -> None:
    r"""Look at the strings themselves: the text `\\u0000` (an escaped backslash) is harmless."""
    if isinstance(value, str) and "\x00" in value:
        raise LineFault("invalid_character", "contains a NUL character (\\u0000)")
    if isinstance(value, dict):
        for key, item in value.items():
            _refuse_nul(key)
            _refuse_nul(item)
    elif isinstance(value, list):
        for item in value:
            _refuse_nul(item)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise LineFault("duplicate_key", f'contains the key "{key}" twice in one dictionary')
            seen.add(key)
    return result


def _refuse_constant(name: str) -> float:
    raise LineFault("invalid_json", f"cannot be parsed. Error: {name} is not a JSON number")


def _finite_float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise LineFault("invalid_json", f"cannot be parsed. Error: the number {text[:_HINT_CHARACTERS]} is too large")
    return value


def _depth(value: Any) -> int:
    """Levels of nesting, found without recursion."""
    deepest = 0
    stack = [(value, 1)]
    while stack:
        item, level = stack.pop()
        if isinstance(item, dict):
            deepest = max(deepest, level)
            stack.extend((child, level + 1) for child in item.values())
        elif isinstance(item, list):
            deepest = max(deepest, level)
            stack.extend((child, level + 1) for child in item)
    return deepest
