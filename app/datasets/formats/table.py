"""CSV and TSV files: a first record that names the columns, then one row a record."""

import csv
from collections.abc import Iterator

from app.datasets.formats.columns import UNDERSTOOD, Unclear, find_layout, shown
from app.datasets.formats.examples import Example, HeaderFault
from app.datasets.formats.lines import RawLine
from app.datasets.formats.records import Record, parse_records
from app.datasets.report import Format

DELIMITERS = (",", "\t", ";")
LABEL_SEPARATOR = "|"
# The formats whose rows fit into cells.
_TABULAR: tuple[Format, ...] = ("text_classification", "summarization")


def find_delimiter(header: str) -> str:
    """The delimiter under which the header's names are understood, or else the one that parts it most."""
    for delimiter in DELIMITERS:
        if find_layout(frozenset(_header(header, delimiter))) is not None:
            return delimiter
    return max(DELIMITERS, key=header.count)


def is_header(text: str) -> bool:
    """Whether a first line names columns that we understand."""
    return find_layout(frozenset(_header(text, find_delimiter(text)))) is not None


def parse_rows(lines: Iterator[RawLine], delimiter: str, wanted: Format | None) -> Iterator[Example]:
    """One example for each record behind the header. `HeaderFault` if the header does not name what is needed."""
    records = parse_records(lines, delimiter)
    header = next(records, None)
    if header is None:
        return
    names = _checked_names(header, wanted)
    for record in records:
        example = Example(record.line)
        for line, fault in record.faults:
            example.findings.add(fault.check, f" {fault.text}", line=line)
        if record.cells is not None and len(record.cells) != len(names):
            example.findings.add(
                "wrong_cell_count",
                f" has {len(record.cells)} cells where the header names {len(names)} columns. "
                "Put a text with separators or line breaks in double quotes",
            )
        elif record.cells is not None and not record.faults:
            example.value = {name: _cell(name, cell) for name, cell in zip(names, record.cells, strict=True)}
        yield example


def _checked_names(header: Record, wanted: Format | None) -> list[str]:
    if header.cells is None or header.faults:
        line, fault = header.faults[0]
        raise HeaderFault(fault.check, f"The header {fault.text}", line)
    names = [_name(cell) for cell in header.cells]
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise HeaderFault("duplicate_column", f"The header names {shown(twice)} twice", header.line)
    # Columns of another kind than is wanted are read too: the refusal then says what the file holds.
    layout = find_layout(frozenset(names), wanted) or find_layout(frozenset(names))
    if isinstance(layout, Unclear):
        raise HeaderFault(layout.check, f"The header{layout.text}", header.line)
    if layout is None or layout.format not in _TABULAR:
        understood = "; ".join(UNDERSTOOD[kind] for kind in _TABULAR)
        raise HeaderFault(
            "missing_columns",
            f"The first line must name the columns. Found: {shown(names)}. Understood in a table: {understood}",
            header.line,
        )
    return names


def _cell(name: str, cell: str) -> str | list[str]:
    """In the column `labels` stand several, parted by |, or none."""
    if name != "labels":
        return cell
    return cell.split(LABEL_SEPARATOR) if cell.strip() else []


def _header(text: str, delimiter: str) -> list[str]:
    """The names in one line of a header, which need not be well-formed."""
    try:
        return [_name(cell) for cell in next(csv.reader([text], delimiter=delimiter), [])]
    except csv.Error:  # the strict reading says what is wrong
        return []


def _name(cell: str) -> str:
    return cell.strip().casefold()
