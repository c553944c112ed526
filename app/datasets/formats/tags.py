"""Tags of tokens, in any of the usual schemes, to spans of characters.

One reading serves IOB1 (Ramshaw and Marcus 1995), IOB2 and BIOES/BILOU: B and S (U) begin an entity, I goes on with an
entity of its type or else begins one, E (L) ends it. It is that of conlleval, with the closing tags added.
"""

import re
from collections.abc import Sequence

from app.contracts.rows import Span

# Without the signs of JSON, so that no JSON line is taken for a line of tokens.
_TAG = re.compile(r"O|([BIESLU])-([^\s\"{}\[\]]{1,200})")
_CLOSING = {"L": "E", "U": "S"}


class TagFault(Exception):  # noqa: N818 - a fault of the user's file, named as in reports
    """A tag that fits no scheme. `number` counts tokens from 1."""

    def __init__(self, number: int, text: str) -> None:
        super().__init__(text)
        self.number = number
        self.text = text


def is_tag(text: str) -> bool:
    return _TAG.fullmatch(text) is not None


def join_tokens(tokens: Sequence[str], tags: Sequence[str]) -> tuple[str, tuple[Span, ...]]:
    """The tokens joined by one space, and their entities. `tags` are as many, each one `is_tag`.

    `TagFault` if an entity ends that has not begun.
    """
    spans: list[Span] = []
    start, label = 0, ""  # of the entity that is open; no label: none is
    position = 0
    end = 0
    for number, (token, tag) in enumerate(zip(tokens, tags, strict=True), 1):
        prefix, kind = _split(tag)
        goes_on = prefix in {"I", "E"} and kind == label
        if label and not goes_on:
            spans.append(Span(start=start, end=end, label=label))
            label = ""
        if prefix == "E" and not goes_on:
            raise TagFault(number, f"the tag '{tag}' ends an entity that has not begun")
        end = position + len(token)
        if prefix in {"B", "S", "I"} and not goes_on:
            start, label = position, kind
        if prefix in {"E", "S"}:
            spans.append(Span(start=start, end=end, label=label))
            label = ""
        position = end + 1
    if label:
        spans.append(Span(start=start, end=end, label=label))
    return " ".join(tokens), tuple(spans)


def _split(tag: str) -> tuple[str, str]:
    prefix, _, kind = tag.partition("-")
    return _CLOSING.get(prefix, prefix), kind
