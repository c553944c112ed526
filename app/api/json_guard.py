"""Refuses JSON that parses here and breaks further inside: NUL, lone surrogates, NaN, duplicate keys, deep nesting."""

import json
import math
from typing import Any

MAX_DEPTH = 64


class BadJson(ValueError):  # noqa: N818 - "bad JSON" says it
    """What is wrong with the body, in words for its sender. Never quotes the body."""


def check_json(body: bytes) -> None:
    """Raise `BadJson` unless `body` is one JSON text in UTF-8 that Postgres can store as it is."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadJson(f"it is not valid UTF-8 (byte {error.start})") from None
    try:
        value = json.loads(
            text,
            object_pairs_hook=_object_without_duplicates,
            parse_constant=_refuse_constant,
            parse_float=_finite,
        )
    except BadJson:
        raise
    except json.JSONDecodeError as error:
        raise BadJson(f"{error.msg} at line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise BadJson(f"it is nested deeper than {MAX_DEPTH} levels") from None
    except ValueError:
        raise BadJson("it holds a number with too many digits") from None
    # Both can only come from an escape: strict UTF-8 has no surrogates, and JSON no raw control characters.
    _check_tree(value, check_text="\\u" in text)


def _check_tree(value: Any, *, check_text: bool) -> None:
    level = [value]
    depth = 0
    while level:
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below.extend(item.values())
                if check_text:
                    below.extend(item.keys())
            elif isinstance(item, list):
                below.extend(item)
            elif check_text and isinstance(item, str):
                _check_string(item)
        depth += any(isinstance(item, dict | list) for item in level)
        if depth > MAX_DEPTH:
            raise BadJson(f"it is nested deeper than {MAX_DEPTH} levels")
        level = below


def _check_string(text: str) -> None:
    if "\x00" in text:
        raise BadJson("it holds the character U+0000, which cannot be stored")
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise BadJson("it holds half of a surrogate pair, which is no character")


def _object_without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise BadJson("an object has the same key twice")
    return result


def _refuse_constant(_: str) -> float:
    raise BadJson("NaN and Infinity are not JSON numbers")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise BadJson("a number is too large")
    return number
