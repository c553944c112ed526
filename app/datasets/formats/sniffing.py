"""Which syntax is a file written in? Its first line decides; the filename helps where that leaves a doubt."""

from collections.abc import Iterator
from itertools import chain
from pathlib import PurePath
from typing import Literal, NamedTuple

from app.datasets.formats import conll, table
from app.datasets.formats.lines import RawLine
from app.datasets.formats.tags import is_tag

Syntax = Literal["jsonl", "table", "conll"]

_JSON_SUFFIXES = frozenset({".jsonl", ".json", ".ndjson"})
_TABLE_SUFFIXES = frozenset({".csv", ".tsv"})
_CONLL_SUFFIXES = frozenset({".conll", ".iob", ".iob2", ".bio"})
_PEEKED_LINES = 20
_BOM = "\ufeff"


class Sniffed(NamedTuple):
    """`lines` are all lines again, but for blank ones at the start."""

    syntax: Syntax
    delimiter: str
    lines: Iterator[RawLine]


def sniff(lines: Iterator[RawLine], filename: str | None) -> Sniffed:
    peeked: list[RawLine] = []
    first = ""
    for line in lines:
        if line.is_blank:
            continue
        peeked.append(line)
        first = (line.content or b"").decode("utf-8", errors="replace").removeprefix(_BOM).rstrip("\r")
        if len(peeked) == _PEEKED_LINES or not _is_comment(first):
            break
    suffix = PurePath(filename or "").suffix.casefold()
    return Sniffed(_syntax(first, suffix), table.find_delimiter(first), chain(peeked, lines))


def _syntax(first: str, suffix: str) -> Syntax:
    if suffix in _JSON_SUFFIXES:
        return "jsonl"
    if suffix not in _TABLE_SUFFIXES - {".tsv"} and _is_tagged_token(first):
        return "conll"
    if first.lstrip().startswith(("{", "[")):
        return "jsonl"
    if suffix in _CONLL_SUFFIXES:
        return "conll"
    return "table" if suffix in _TABLE_SUFFIXES or table.is_header(first) else "jsonl"


def _is_tagged_token(text: str) -> bool:
    columns = conll.split_columns(text)
    return columns[0] == conll.DOCUMENT_START or (len(columns) > 1 and is_tag(columns[-1]))


def _is_comment(text: str) -> bool:
    return conll.is_comment(conll.split_columns(text))
