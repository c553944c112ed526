"""Reads the texts of one request in portions, so that a long list of long texts holds nobody up."""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

_CHARACTERS_PER_STEP = 16_384  # a few milliseconds of a tokenizer's work
# No text has so many in each token from end to end: of a longer one, only as much is read as can matter.
_CHARACTERS_PER_TOKEN = 40


class ReadText(Protocol):
    """A text in tokens; its end was cut where it was longer than the model reads."""

    @property
    def is_truncated(self) -> bool: ...


RowT = TypeVar("RowT", bound=ReadText)


def read_some(inputs: Sequence[str], rows: list[RowT], limit: int, encode: Callable[[str, int], RowT]) -> None:
    """Append to `rows` the next of the inputs; `encode(text, place)` cuts a text to `limit` tokens."""
    characters = 0
    while characters < _CHARACTERS_PER_STEP and len(rows) < len(inputs):
        text, place = inputs[len(rows)], len(rows)
        start = text[: limit * _CHARACTERS_PER_TOKEN]
        row = encode(start, place)
        rows.append(row if row.is_truncated or start == text else encode(text, place))
        characters += len(text)


def truncated_places(rows: Sequence[ReadText]) -> tuple[int, ...]:
    """Which texts were cut."""
    return tuple(place for place, row in enumerate(rows) if row.is_truncated)
