"""JSON Lines read strictly: split on newlines only, UTF-8, and nothing that a database would trip over."""

import json
import math
from collections.abc import Iterable, Iterator
from typing import Any

from app.datasets.formats.examples import Example
from app.datasets.formats.lines import LineFault, RawLine, decode

MAX_DEPTH = 32
_HINT_CHARACTERS = 20


def parse_rows(lines: Iterable[RawLine]) -> Iterator[Example]:
    """One example for each line that is not blank; its value is None if the line holds no dictionary."""
    for line in lines:
        if line.is_blank:
            continue
        example = Example(line.number)
        try:
            value = parse_line(line)
        except LineFault as fault:
            example.findings.add(fault.check, f" {fault.text}")
        else:
            if isinstance(value, dict):
                example.value = value
            else:
                example.findings.add(
                    "data_type",
                    ": Expected file to have JSONL format, where every line is a JSON dictionary. "
                    f'Line {line.number} is not a dictionary (HINT: line starts with: "{_hint(line)}...").',
                )
        yield example


def parse_line(line: RawLine) -> Any:
    """The JSON value of a line; `LineFault` if it has none that we accept."""
    text = decode(line)
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


def _hint(line: RawLine) -> str:
    """The start of a line, for messages."""
    return (line.content or b"")[:_HINT_CHARACTERS].decode("utf-8", errors="replace")


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
