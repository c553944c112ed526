"""Prompts from a file: conversations as rows have them, or a text a line."""

import json
from pathlib import Path
from typing import Any

from app.load.plan import Messages

_TEXT_FIELDS = ("prompt", "text", "source")


class PromptsError(ValueError):
    """The message names the file, the line and what may stand there."""


def read_prompts(path: Path) -> list[Messages]:
    """One prompt a line: of .jsonl its `messages` (without a last answer), `prompt`, `text` or `source`; else the line.

    Raises `PromptsError`.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise PromptsError(f"{path} cannot be read: {error}") from error
    of_line = _from_json if path.suffix == ".jsonl" else _from_text
    prompts = [of_line(line, f"{path}, line {number}") for number, line in enumerate(lines, start=1) if line.strip()]
    if not prompts:
        raise PromptsError(f"{path} has no line to ask.")
    return prompts


def _from_text(line: str, _place: str) -> Messages:
    return [{"role": "user", "content": line.strip()}]


def _from_json(line: str, place: str) -> Messages:
    wanted = f"{place} should be a JSON object with messages, or with one of: {', '.join(_TEXT_FIELDS)}."
    try:
        row: Any = json.loads(line)
    except ValueError as error:
        raise PromptsError(wanted) from error
    if not isinstance(row, dict):
        raise PromptsError(wanted)
    messages = row.get("messages")
    if isinstance(messages, list) and all(isinstance(one, dict) and "role" in one for one in messages):
        # What the model is to answer is the end of a training row.
        while messages and messages[-1]["role"] == "assistant":
            messages = messages[:-1]
        if messages:
            return [{name: value for name, value in one.items() if name != "weight"} for one in messages]
    text = next((row[name] for name in _TEXT_FIELDS if isinstance(row.get(name), str)), None)
    if text is None:
        raise PromptsError(wanted)
    return [{"role": "user", "content": text}]
