"""Text of a preview as lines of a terminal: what is learned is marked, nothing else of the file gets through."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from app.contracts.previews import OUTSIDE

LEARNED = "bold green"
REST = "dim"
CONTROL = "dim cyan"
LABEL = "magenta"
CUT = "bold yellow"
MARKS = ("⟦", "⟧")
_JOINER = "\u200d"
# Lines of one block that are shown at its beginning and its end; longer blocks are folded between.
_KEPT_OF_REST, _KEPT_OF_LEARNED = 4, 10


class Line:
    """One line of the terminal, and whether anything on it is learned."""

    def __init__(self, text: Text, *, is_learned: bool) -> None:
        self.text = text
        self.is_learned = is_learned


def turn_lines(
    console: Console, segments: Sequence[Mapping[str, Any]], *, width: int, is_plain: bool, is_full: bool
) -> list[Line]:
    """The segments of one turn, wrapped to `width`; without `is_full` long blocks are folded."""
    text = _marked(segments) if is_plain else _styled(segments)
    lines: list[Line] = []
    for wrapped in text.wrap(console, width, overflow="fold"):
        is_learned = any(span.style == LEARNED and span.end > span.start for span in wrapped.spans)
        # An empty line has no characters to tell; one after a learned line that goes on is learned too.
        goes_on = not wrapped.plain and bool(lines) and lines[-1].is_learned
        lines.append(Line(wrapped, is_learned=is_learned or goes_on))
    while lines and not lines[-1].text.plain.strip():
        lines.pop()
    return lines if is_full else list(_folded(lines))


def visible(text: str) -> str:
    """The text without characters that move the cursor, turn the direction or hide: those by their escapes."""
    return "".join(
        character
        if character.isprintable() or character in {"\n", _JOINER}
        else ("    " if character == "\t" else character.encode("unicode_escape").decode())
        for character in text
    )


def is_marked(segment: Mapping[str, Any]) -> bool:
    """Words outside of entities are learned as such, and would mark nearly all of a text."""
    return bool(segment["is_trained"]) and segment["label"] != OUTSIDE


def _styled(segments: Sequence[Mapping[str, Any]]) -> Text:
    """Learned line ends are tokens too, and seen as such."""
    result = Text()
    for segment in segments:
        shown = visible(segment["text"])
        if not is_marked(segment):
            result.append(shown, CONTROL if segment["is_control"] else REST)
            continue
        gap = shown[: len(shown) - len(shown.lstrip())] if segment["label"] else ""
        result.append(gap, REST).append(shown.removeprefix(gap).replace("\n", "↵\n"), LEARNED)
        if segment["label"]:
            result.append(f"·{visible(segment['label'])}", LABEL)
    return result


def _marked(segments: Sequence[Mapping[str, Any]]) -> Text:
    """Marks around what is learned, for where there is no colour; the style is kept for the gutter alone."""
    result = Text()
    for (is_learned, label), group in itertools.groupby(
        segments, key=lambda segment: (is_marked(segment), segment["label"])
    ):
        shown = visible("".join(segment["text"] for segment in group))
        if not is_learned:
            result.append(shown)
            continue
        gap = shown[: len(shown) - len(shown.lstrip())] if label else ""
        tag = f"·{visible(label)}" if label else ""
        result.append(gap).append(f"{MARKS[0]}{shown.removeprefix(gap)}{tag}{MARKS[1]}", LEARNED)
    return result


def _folded(lines: Sequence[Line]) -> Iterator[Line]:
    for is_learned, group in itertools.groupby(lines, key=lambda line: line.is_learned):
        block = list(group)
        kept = _KEPT_OF_LEARNED if is_learned else _KEPT_OF_REST
        hidden = len(block) - 2 * kept
        if hidden <= 2:
            yield from block
            continue
        yield from block[:kept]
        said = f"⋮ {hidden} more lines{', all learned' if is_learned else ''} (--full shows them)"
        yield Line(Text(said, "dim italic"), is_learned=is_learned)
        yield from block[-kept:]
