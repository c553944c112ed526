"""From the messages of a request to those a chat template is given."""

from typing import Any

from app.chat.schemas import ChatRequest, Message, NamedFunction, NamedTool
from app.errors import InvalidInput

_TEXT_PARTS = {"text": "text", "refusal": "refusal"}


def template_messages(messages: list[Message]) -> tuple[dict[str, Any], ...]:
    """Messages with plain text as content and absent keys left out; `InvalidInput` for other media."""
    result: list[dict[str, Any]] = []
    for index, message in enumerate(messages):
        entry: dict[str, Any] = {"role": message.role, "content": _text(message, index)}
        if message.name is not None:
            entry["name"] = message.name
        if message.tool_call_id is not None:
            entry["tool_call_id"] = message.tool_call_id
        tool_calls = _tool_calls(message)
        if tool_calls:
            entry["tool_calls"] = tool_calls
        result.append(entry)
    return tuple(result)


def template_tools(request: ChatRequest) -> tuple[dict[str, Any], ...] | None:
    """The tools the model may know of in this request: none, all, or the one it was told to call."""
    if request.tools is not None:
        tools = [tool.model_dump(exclude_none=True) for tool in request.tools]
        choice: object = request.tool_choice
    else:
        functions = request.functions or []
        tools = [{"type": "function", "function": function.model_dump(exclude_none=True)} for function in functions]
        choice = request.function_call
    if not tools or choice == "none":
        return None
    name = _chosen_name(choice)
    if name is None:
        return tuple(tools)
    named = tuple(tool for tool in tools if tool["function"]["name"] == name)
    if not named:
        field = "tool_choice" if request.tools is not None else "function_call"
        raise InvalidInput(f"'{field}' names the function '{name}', which is not among those given.", param=field)
    return named


def _chosen_name(choice: object) -> str | None:
    if isinstance(choice, NamedTool):
        return choice.function.name
    return choice.name if isinstance(choice, NamedFunction) else None


def _text(message: Message, index: int) -> str | None:
    """The content as one text; parts are joined as in training."""
    if message.content is None:
        if message.role != "assistant":
            raise InvalidInput(
                f"messages[{index}] has no content. Only an assistant message with tool calls may leave it out.",
                param=f"messages[{index}].content",
            )
        return None
    if isinstance(message.content, str):
        return message.content
    return "".join(_part_text(part, index, place) for place, part in enumerate(message.content))


def _part_text(part: dict[str, Any], index: int, place: int) -> str:
    kind = part.get("type")
    where = f"messages[{index}].content[{place}]"
    if kind not in _TEXT_PARTS:
        raise InvalidInput(
            f"{where} is of type '{kind}', but the models of this service read text only. "
            'Send {"type": "text", "text": "…"} parts or a plain string.',
            code="unsupported_content_part",
            param=where,
        )
    text = part.get(_TEXT_PARTS[kind])
    if not isinstance(text, str):
        raise InvalidInput(f"{where} has no '{_TEXT_PARTS[kind]}' with a string.", param=where)
    return text


def _tool_calls(message: Message) -> list[dict[str, Any]]:
    if message.tool_calls is not None:
        return message.tool_calls
    if message.function_call is not None:
        return [{"type": "function", "function": message.function_call}]
    return []
