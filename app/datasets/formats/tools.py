"""Tools and tool calls of chat rows; OpenAI's older `functions` and `function_call` become tools."""

from typing import Any

from app.datasets.formats.findings import Findings

_MAX_TOOLS = 128


def parse_tools(tools: Any, functions: Any, findings: Findings) -> tuple[dict[str, Any], ...] | None:
    """The tools a row declares, in today's form; None if it declares none."""
    if functions is not None:
        if tools is not None:
            findings.add("invalid_value", ' has both "tools" and "functions"; use "tools"')
            return None
        if not isinstance(functions, list):
            findings.add("invalid_value", ': "functions" must be a list')
            return None
        tools = [{"type": "function", "function": function} for function in functions]
    if tools is None:
        return None
    if not isinstance(tools, list) or not 1 <= len(tools) <= _MAX_TOOLS:
        findings.add("invalid_value", f': "tools" must be a list of 1 to {_MAX_TOOLS} tools')
        return None
    for number, tool in enumerate(tools, 1):
        function = tool.get("function") if isinstance(tool, dict) and tool.get("type") == "function" else None
        if not isinstance(function, dict) or not _is_name(function.get("name")):
            findings.add(
                "invalid_value", f', tool {number} must have the form {{"type": "function", "function": {{"name": …}}}}'
            )
        elif not isinstance(function.get("parameters", {}), dict):
            findings.add("invalid_value", f', tool {number}: "parameters" must be a JSON schema (a dictionary)')
    return tuple(tool for tool in tools if isinstance(tool, dict))


def parse_tool_calls(message: dict[str, Any], where: str, findings: Findings) -> tuple[dict[str, Any], ...] | None:
    """The calls an assistant message makes; None if it makes none."""
    calls = message.get("tool_calls")
    legacy = message.get("function_call")
    if calls is not None and legacy is not None:
        findings.add("invalid_value", f'{where} has both "tool_calls" and "function_call"; use "tool_calls"')
        return None
    if legacy is not None:
        calls = [{"id": "call_0", "type": "function", "function": legacy}]
    if calls is None or calls == []:
        return None
    if not isinstance(calls, list):
        findings.add("invalid_value", f'{where}: "tool_calls" must be a list')
        return None
    for number, call in enumerate(calls, 1):
        if not _is_call(call):
            findings.add(
                "invalid_value",
                f"{where}, tool call {number} must have the form "
                '{"id": …, "type": "function", "function": {"name": …, "arguments": "…"}}, arguments as a string',
            )
    return tuple(call for call in calls if isinstance(call, dict))


def _is_call(call: Any) -> bool:
    if not isinstance(call, dict) or call.get("type") != "function" or not isinstance(call.get("id"), str):
        return False
    function = call.get("function")
    return isinstance(function, dict) and _is_name(function.get("name")) and isinstance(function.get("arguments"), str)


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and bool(name)
