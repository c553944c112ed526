"""CoNLL files: a token a line, its tag in the last column, a blank line behind each sentence."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from app.datasets.formats.examples import Example
from app.datasets.formats.lines import MAX_LINE_BYTES, LineFault, RawLine, decode
from app.datasets.formats.tags import is_tag

DOCUMENT_START = "-DOCSTART-"
_SPACES = re.compile(r"[ \t]+")


@dataclass
class _Sentence:
    """Bounded: what is too long is counted on, not kept."""

    example: Example
    tokens: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    token_lines: list[int] = field(default_factory=list)
    bytes: int = 0

    def finished(self) -> Example:
        if self.bytes > MAX_LINE_BYTES:
            self.example.findings.add(
                "line_too_long",
                f" is a sentence of more than {MAX_LINE_BYTES:,} bytes. Put a blank line behind each sentence",
            )
        if not self.example.findings:
            self.example.value = {"tokens": self.tokens, "tags": self.tags}
            self.example.token_lines = self.token_lines
        return self.example


def parse_rows(lines: Iterable[RawLine]) -> Iterator[Example]:
    """One example for each sentence."""
    sentence: _Sentence | None = None
    for line in lines:
        if line.is_blank:
            if sentence is not None:
                yield sentence.finished()
            sentence = None
            continue
        columns = _columns(line)
        if isinstance(columns, list) and (columns[0] == DOCUMENT_START or (sentence is None and is_comment(columns))):
            continue
        sentence = sentence or _Sentence(Example(line.number))
        _add(sentence, columns, line)
    if sentence is not None:
        yield sentence.finished()


def split_columns(text: str) -> list[str]:
    """Columns parted by tabs, or where there are none by spaces. Other white space is part of a token."""
    if "\t" in text:
        return [column.strip(" ") for column in text.rstrip(" \r\n\t").split("\t")]
    return _SPACES.split(text.strip(" \r\n"))


def is_comment(columns: list[str]) -> bool:
    """A line such as "# id = 7" before a sentence; "#" with a tag is a token."""
    return columns[0] in {"#", "##"} and not is_tag(columns[-1])


def _columns(line: RawLine) -> list[str] | LineFault:
    try:
        return split_columns(decode(line))
    except LineFault as fault:
        return fault


def _add(sentence: _Sentence, columns: list[str] | LineFault, line: RawLine) -> None:
    findings = sentence.example.findings
    sentence.bytes += len(line.content or b"") + 1
    if sentence.bytes > MAX_LINE_BYTES:
        sentence.tokens.clear()
        return
    if isinstance(columns, LineFault):
        findings.add(columns.check, f" {columns.text}", line=line.number)
    elif len(columns) < 2:
        findings.add(
            "missing_tag",
            f": the line '{columns[0][:40]}' has one column; a line holds a token first and its tag last",
            line=line.number,
        )
    else:
        sentence.tokens.append(columns[0])
        sentence.tags.append(columns[-1])
        sentence.token_lines.append(line.number)
