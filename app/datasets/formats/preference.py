"""Preference rows, OpenAI's: {"input": {"messages": […]}, "preferred_output": […], "non_preferred_output": […]}."""

from typing import Any

from app.contracts.rows import ChatMessage, PreferenceRow
from app.datasets.formats.chat import parse_message
from app.datasets.formats.findings import Findings
from app.datasets.formats.tools import parse_tools

_OUTPUTS = ("preferred_output", "non_preferred_output")
_ROW_KEYS = frozenset({"input", *_OUTPUTS})
_INPUT_KEYS = frozenset({"messages", "tools", "parallel_tool_calls", "functions"})


def parse_preference_row(value: dict[str, Any], line: int, findings: Findings) -> PreferenceRow | None:
    """The canonical row; None if there are findings."""
    for key in sorted(value.keys() - _ROW_KEYS):
        findings.add("extra_key", f' contains an extra "{key}".')
    messages, tools = _input(value.get("input"), findings)
    answers = [_output(value, key, findings) for key in _OUTPUTS]
    preferred, non_preferred = answers
    if findings or preferred is None or non_preferred is None:
        return None
    return PreferenceRow(line=line, messages=messages, tools=tools, preferred=preferred, non_preferred=non_preferred)


def _input(value: Any, findings: Findings) -> tuple[tuple[ChatMessage, ...], tuple[dict[str, Any], ...] | None]:
    if not isinstance(value, dict):
        findings.add("missing_messages_list", ': "input" must be a dictionary with "messages"')
        return (), None
    for key in sorted(value.keys() - _INPUT_KEYS):
        findings.add("extra_key", f': "input" contains an extra "{key}".')
    if not isinstance(value.get("parallel_tool_calls", True), bool):
        findings.add("invalid_value", ': "parallel_tool_calls" must be true or false')
    tools = parse_tools(value.get("tools"), value.get("functions"), findings)
    messages = value.get("messages")
    if not isinstance(messages, list) or not messages:
        findings.add("missing_messages_list", ': "messages" of "input" must be a list of at least one message')
        return (), tools
    parsed = [parse_message(message, f", message {number}", findings) for number, message in enumerate(messages, 1)]
    last = messages[-1]
    if isinstance(last, dict) and last.get("role") == "assistant":
        findings.add("invalid_value", ': "input" must end before the answer, not with an assistant message')
    return tuple(message for message in parsed if message is not None), tools


def _output(value: dict[str, Any], key: str, findings: Findings) -> ChatMessage | None:
    """The one assistant message of an output."""
    messages = value.get(key)
    if not isinstance(messages, list) or len(messages) != 1:
        findings.add("example_missing_assistant_message", f': "{key}" must be a list of one assistant message')
        return None
    message = parse_message(messages[0], f', "{key}"', findings)
    if message is not None and message.role != "assistant":
        findings.add("example_missing_assistant_message", f", \"{key}\": the message must have the role 'assistant'")
    if message is not None and message.weight == 0:
        findings.add("invalid_value", f', "{key}": a message with the weight 0 cannot be learned from')
    return message
