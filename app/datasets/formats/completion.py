"""Prompt and completion rows: {"prompt": "…", "completion": "…"}."""

from typing import Any

from app.contracts.rows import ChatMessage, ChatRow
from app.datasets.formats.findings import Findings

KEYS = ("prompt", "completion")


def parse_completion_row(value: dict[str, Any], line: int, findings: Findings) -> ChatRow | None:
    """The canonical row; None if there are findings."""
    for key in KEYS:
        if key not in value:
            findings.add("message_missing_key", f' is missing key "{key}"')
        elif not isinstance(value[key], str):
            findings.add("missing_content", f': "{key}" must be a string')
    for key in value.keys() - set(KEYS):
        findings.add("extra_key", f' contains an extra "{key}".')
    if not findings and not value["completion"]:
        findings.add("missing_content", ': "completion" is empty, there is nothing to learn')
    if findings:
        return None
    return ChatRow(
        line=line,
        messages=(
            ChatMessage(role="user", content=value["prompt"]),
            ChatMessage(role="assistant", content=value["completion"]),
        ),
        is_completion=True,
    )
