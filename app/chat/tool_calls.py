"""Finds tool calls in what a model wrote, by the conventions of common chat templates.

Recognised, if the named function was offered in the request:
    <tool_call>{"name": …, "arguments": {…}}</tool_call>   (or a list inside; Qwen, Hermes, SmolLM2)
    [TOOL_CALLS][{"name": …, "arguments": {…}}]             (Mistral)
    {"name": …, "parameters": {…}}                          (Llama 3, the whole answer)
Anything else stays what it is: text.
"""

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

_MARKERS = ("<tool_call>", "[TOOL_CALLS]", "<|python_tag|>")
_CLOSER = "</tool_call>"


@dataclass(frozen=True)
class ToolCall:
    """A call the model wants made; `arguments` is a JSON object as text, as the wire has it."""

    name: str
    arguments: str


class ToolCallReader:
    """Takes an answer piece by piece; lets plain text pass and keeps back what may be a tool call."""

    def __init__(self, names: Collection[str]) -> None:
        self._names = frozenset(names)
        self._passed = ""
        self._held = ""

    def push(self, text: str) -> str:
        """The text that is certainly not part of a call."""
        self._held += text
        cut = self._start_of_possible_call()
        passed, self._held = self._held[:cut], self._held[cut:]
        self._passed += passed
        return passed

    def finish(self) -> tuple[str, tuple[ToolCall, ...]]:
        """At the end of the answer: the remaining text, or the calls it consists of."""
        calls = parse_tool_calls(self._held, self._names)
        return ("", calls) if calls else (self._held, ())

    def _start_of_possible_call(self) -> int:
        if not self._passed.strip():
            lead = len(self._held) - len(self._held.lstrip())
            if self._held[lead : lead + 1] in ("", "{"):
                return 0
        found = [self._held.find(marker) for marker in _MARKERS if marker in self._held]
        if found:
            return min(found)
        return len(self._held) - max(_overlap(self._held, marker) for marker in _MARKERS)


def _overlap(text: str, marker: str) -> int:
    """How many last characters of `text` may be the beginning of `marker`."""
    return next((length for length in range(len(marker) - 1, 0, -1) if text.endswith(marker[:length])), 0)


def parse_tool_calls(text: str, names: Collection[str]) -> tuple[ToolCall, ...]:
    """All calls if the text consists of calls and nothing else; else none."""
    rest = text.strip()
    calls: list[ToolCall] = []
    while rest:
        for marker in _MARKERS:
            rest = rest.removeprefix(marker).lstrip()
        try:
            value, end = json.JSONDecoder().raw_decode(rest)
        except (ValueError, RecursionError):
            return ()
        for item in value if isinstance(value, list) else [value]:
            call = _call(item, names)
            if call is None:
                return ()
            calls.append(call)
        rest = rest[end:].lstrip().removeprefix(_CLOSER).lstrip(" \r\n\t;")
    return tuple(calls)


def _call(item: Any, names: Collection[str]) -> ToolCall | None:
    if not isinstance(item, dict) or item.get("name") not in names:
        return None
    arguments = item.get("arguments", item.get("parameters", {}))
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except ValueError:
            return None
    if not isinstance(arguments, dict):
        return None
    return ToolCall(item["name"], json.dumps(arguments, ensure_ascii=False))
