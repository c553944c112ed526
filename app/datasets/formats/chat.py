"""Chat rows: {"messages": […], "tools"?: […]}, with OpenAI's rules for roles, content, weights and tools."""

from typing import Any, get_args

from app.contracts.rows import ChatMessage, ChatRow, Role
from app.datasets.formats.findings import Findings
from app.datasets.formats.tools import parse_tool_calls, parse_tools

ROLES: tuple[str, ...] = get_args(Role)
_ROW_KEYS = frozenset({"messages", "tools", "parallel_tool_calls", "functions"})
_MESSAGE_KEYS = frozenset({"role", "content", "name"})
_ROLE_KEYS = {
    "assistant": _MESSAGE_KEYS | {"tool_calls", "function_call", "weight"},
    "tool": _MESSAGE_KEYS | {"tool_call_id"},
}
# Answers pasted from the API carry these; empty they mean nothing.
_HARMLESS_IF_EMPTY = frozenset({"refusal", "audio", "annotations", "tool_calls", "function_call", "name", "weight"})
_MAX_NAME = 64


def parse_chat_row(value: dict[str, Any], line: int, findings: Findings) -> ChatRow | None:
    """The canonical row; None if there are findings."""
    for key in sorted(value.keys() - _ROW_KEYS):
        findings.add("extra_key", f' contains an extra "{key}".')
    if not isinstance(value.get("parallel_tool_calls", True), bool):
        findings.add("invalid_value", ': "parallel_tool_calls" must be true or false')
    tools = parse_tools(value.get("tools"), value.get("functions"), findings)
    if "messages" not in value:
        findings.add("missing_messages_list", ' is missing key "messages"')
        return None
    messages = value["messages"]
    if not isinstance(messages, list) or not messages:
        findings.add("missing_messages_list", ': "messages" must be a list of at least one message')
        return None
    parsed = [parse_message(message, f", message {number}", findings) for number, message in enumerate(messages, 1)]
    _check_answers(messages, findings)
    if findings:
        return None
    return ChatRow(line=line, messages=tuple(message for message in parsed if message is not None), tools=tools)


def parse_message(value: Any, where: str, findings: Findings) -> ChatMessage | None:
    """One message; None if it adds to the findings, whose texts begin with `where`."""
    if not isinstance(value, dict):
        findings.add("data_type", f"{where} is not a dictionary")
        return None
    if "role" not in value:
        findings.add("message_missing_key", f"{where} Discriminator 'role' is missing in value")
        return None
    role = value["role"]
    if role not in ROLES:
        findings.add(
            "unrecognized_role", f"{where} has the unrecognized role {role!r}; expected one of: {', '.join(ROLES)}"
        )
        return None
    before = len(findings.found)
    for key in sorted(value.keys() - _ROLE_KEYS.get(role, _MESSAGE_KEYS)):
        if value[key] is not None and not (key in _HARMLESS_IF_EMPTY and value[key] == []):
            findings.add("message_unrecognized_key", f'{where} contains an extra "{key}".')
    tool_calls = parse_tool_calls(value, where, findings) if role == "assistant" else None
    content = _content(value, role, where, findings, is_optional=tool_calls is not None)
    weight = value.get("weight") if role == "assistant" else None
    if weight is not None and (isinstance(weight, bool) or weight not in (0, 1)):
        findings.add("invalid_value", f'{where}: "weight" must be 0 or 1')
    name = _text(value, "name", where, findings, is_required=role == "function")
    call_id = _text(value, "tool_call_id", where, findings, is_required=True) if role == "tool" else None
    if len(findings.found) > before:
        return None
    return ChatMessage(
        role=role,
        content=content,
        name=name,
        tool_calls=tool_calls,
        tool_call_id=call_id,
        weight=None if weight is None else int(weight),  # type: ignore[arg-type]  # checked above
    )


def _content(value: dict[str, Any], role: str, where: str, findings: Findings, *, is_optional: bool) -> str | None:
    """Text, or the joined text parts of a list."""
    content = value.get("content")
    if content is None:
        if not is_optional:
            findings.add("missing_content", f'{where} ({role}) is missing "content"')
        return None
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        findings.add("missing_content", f'{where} ({role}): "content" must be a string')
        return None
    texts: list[str] = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text" and isinstance(part.get("text"), str):
            texts.append(part["text"])
        else:
            findings.add(
                "invalid_value",
                f'{where} ({role}): "content" holds a part of type {kind!r}; only text can be trained on',
            )
            return None
    return "".join(texts)


def _text(value: dict[str, Any], key: str, where: str, findings: Findings, *, is_required: bool) -> str | None:
    text = value.get(key)
    if text is None:
        if is_required:
            findings.add("message_missing_key", f'{where} is missing key "{key}"')
        return None
    if not isinstance(text, str) or not text or (key == "name" and len(text) > _MAX_NAME):
        findings.add("invalid_value", f'{where}: "{key}" must be a short text')
        return None
    return text


def _check_answers(messages: list[Any], findings: Findings) -> None:
    """A row must end with the answer to learn, and have one that counts."""
    answers = [message for message in messages if isinstance(message, dict) and message.get("role") == "assistant"]
    if not answers:
        findings.add("example_missing_assistant_message", " has no message with the role 'assistant'")
        return
    last = messages[-1]
    if isinstance(last, dict) and last.get("role") in ROLES and last["role"] != "assistant":
        findings.add(
            "example_missing_assistant_message",
            f": the last message must have the role 'assistant', not {last['role']!r}",
        )
    if all(message.get("weight") == 0 for message in answers):
        findings.add("invalid_value", " has no assistant message to learn from: all of them have the weight 0")
