"""Rows of text to text: a source and the target to write for it."""

from typing import Any

from app.contracts.rows import TextPair
from app.datasets.formats.columns import Layout
from app.datasets.formats.findings import Findings
from app.datasets.formats.labelled import checked_text


def parse_pair_row(value: dict[str, Any], layout: Layout, line: int, findings: Findings) -> TextPair | None:
    """The canonical row; None if there are findings."""
    source = checked_text(value[layout.first], layout.first, findings)
    target = checked_text(value[layout.second], layout.second, findings)
    return None if findings else TextPair(line=line, source=source, target=target)
