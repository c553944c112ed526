"""The rows of a run: from the request, a file of JSON lines, or stored completions. A bad row is an errored item."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from app.evals.run_messages import NewItem
from app.evals.schemas import Row

MAX_ITEMS = 50_000
_MAX_LINE_BYTES = 4 * 1024 * 1024


class TooManyItems(Exception):  # noqa: N818 - of the data
    """More rows than a run may have."""

    def __init__(self) -> None:
        super().__init__(f"The data has more than {MAX_ITEMS} rows, the most that a run may have. Split it.")


class BrokenRow(ValueError):  # noqa: N818 - of one row
    """Why a line is no item."""


def from_content(rows: Iterable[Row]) -> Iterator[NewItem]:
    for position, row in enumerate(rows):
        yield NewItem(position, row.item, row.sample)


def from_lines(chunks: Iterable[bytes]) -> Iterator[NewItem]:
    """One item for each line that is not blank. `TooManyItems` beyond the limit."""
    position = 0
    for number, line in _lines(chunks):
        if not line.strip():
            continue
        if position == MAX_ITEMS:
            raise TooManyItems
        try:
            item, given = _parse(line)
        except BrokenRow as broken:
            yield NewItem(position, {}, fault=f"line {number}: {broken}")
        else:
            yield NewItem(position, item, given)
        position += 1


def from_completion(position: int, messages: list[dict[str, Any]], completion: dict[str, Any]) -> NewItem:
    """A stored completion: `item.input` are its messages, and its answer is the sample."""
    choices = completion.get("choices") or [{}]
    message = choices[0].get("message") or {}
    text = message.get("content") or ""
    item = {
        "input": messages,
        "output": [message],
        "output_text": text,
        "model": completion.get("model"),
        "metadata": completion.get("metadata") or {},
        "id": completion.get("id"),
    }
    given = {
        "output_text": text,
        "output_tools": message.get("tool_calls") or [],
        "choices": choices,
        "model": completion.get("model"),
        "finish_reason": choices[0].get("finish_reason") or "",
        "usage": completion.get("usage"),
    }
    return NewItem(position, item, given)


def _lines(chunks: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Lines with their numbers from 1. Of a line that is too long only the beginning is kept: it is a fault anyway."""
    buffer = bytearray()
    number = 1
    for chunk in chunks:
        pieces = chunk.split(b"\n")
        for piece in pieces[:-1]:
            _extend(buffer, piece)
            yield number, bytes(buffer)
            buffer.clear()
            number += 1
        _extend(buffer, pieces[-1])
    if buffer:
        yield number, bytes(buffer)


def _extend(buffer: bytearray, piece: bytes) -> None:
    buffer += piece[: max(0, _MAX_LINE_BYTES + 1 - len(buffer))]


def _parse(line: bytes) -> tuple[dict[str, Any], dict[str, Any] | None]:
    if len(line) > _MAX_LINE_BYTES:
        raise BrokenRow(f"it has more than {_MAX_LINE_BYTES} bytes")
    try:
        value = json.loads(line.decode("utf-8-sig"))
        # What JSON and Postgres do not know: NaN, Infinity, U+0000, half a surrogate pair.
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
        text.encode()
    except UnicodeError:
        raise BrokenRow("it is not valid UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise BrokenRow(f"it is no JSON: {error}") from None
    if "\\u0000" in text.replace("\\\\", ""):
        raise BrokenRow("it holds the character U+0000, which cannot be stored")
    if not isinstance(value, dict) or not isinstance(value.get("item"), dict):
        raise BrokenRow('it has no "item" with an object; a line looks like {"item": {…}, "sample": {…}}')
    given = value.get("sample")
    if given is not None and not isinstance(given, dict):
        raise BrokenRow('its "sample" is no object')
    return value["item"], given
