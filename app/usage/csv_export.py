"""The ledger as CSV that a spreadsheet cannot be made to run.

Cells that begin with one of `= + - @ TAB CR` get a `'` before them (OWASP, CSV injection; ASVS 1.2.10). Numbers of ours
stay numbers: none is negative.
"""

import csv
import io
from collections.abc import Iterable, Sequence

_RUNS = ("=", "+", "-", "@", "\t", "\r")


def safe_cell(value: object) -> str:
    """None is an empty cell."""
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(_RUNS) else text


def to_csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """RFC 4180, lines ended by CR LF."""
    target = io.StringIO()
    writer = csv.writer(target)
    writer.writerow([safe_cell(cell) for cell in header])
    writer.writerows([safe_cell(cell) for cell in row] for row in rows)
    return target.getvalue()
