"""Rows of text classification: a text and its label, or a list of labels."""

from typing import Any

from app.contracts.rows import LabelledText
from app.datasets.formats.columns import Layout
from app.datasets.formats.findings import Findings

MAX_LABEL_CHARACTERS = 200


def parse_labelled_row(value: dict[str, Any], layout: Layout, line: int, findings: Findings) -> LabelledText | None:
    """The canonical row; None if there are findings. Numbers and truth values become their JSON text."""
    text = checked_text(value[layout.first], layout.first, findings)
    raw = value[layout.second]
    parts = raw if isinstance(raw, list) else [raw]
    labels = [label for part in parts if (label := checked_label(part, f': "{layout.second}"', findings)) is not None]
    if findings:
        return None
    # A list may name a label twice; it then has it once.
    return LabelledText(line=line, text=text, labels=tuple(dict.fromkeys(labels)))


def checked_text(text: Any, column: str, findings: Findings) -> str:
    """A text with something in it, as written."""
    if not isinstance(text, str):
        findings.add("missing_content", f': "{column}" must be a string')
        return ""
    if not text.strip():
        findings.add("missing_content", f': "{column}" is empty')
    return text


def checked_label(value: Any, where: str, findings: Findings, *, line: int | None = None) -> str | None:
    """The label without the spaces around it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if not isinstance(value, str):
        hint = "; a row without any label has an empty list" if value is None else ""
        findings.add("invalid_label", f"{where} must be a string, a whole number, true or false{hint}", line=line)
        return None
    label = value.strip()
    if not label:
        findings.add("invalid_label", f"{where} has an empty label", line=line)
        return None
    if len(label) > MAX_LABEL_CHARACTERS or "\n" in label:
        findings.add(
            "invalid_label",
            f"{where} has a label of {len(label):,} characters; a label is a short name of one line, "
            f"{MAX_LABEL_CHARACTERS} characters at most. Texts to be written need the task 'summarization'",
            line=line,
        )
        return None
    return label
