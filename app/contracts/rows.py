"""Canonical training rows: the one shape that leaves every parser and enters the engine.

Rows are stored as JSON lines, one `ChatRow` a line, in UTF-8.
"""

from typing import Any, Literal

from pydantic import Field

from app.contracts.base import Contract

Role = Literal["system", "developer", "user", "assistant", "tool", "function"]


class ChatMessage(Contract):
    """One message. `weight` 0 on an assistant message keeps it out of the loss."""

    role: Role
    content: str | None = None
    name: str | None = None
    tool_calls: tuple[dict[str, Any], ...] | None = None
    tool_call_id: str | None = None
    weight: Literal[0, 1] | None = None


class ChatRow(Contract):
    """One conversation to learn from, or one prompt with its completion.

    For `prompt`/`completion` files the row has `is_completion` True and exactly two
    messages (user = prompt, assistant = completion), rendered without a chat template.
    `line` is the 1-based line of the source file, for reports.
    """

    line: int = Field(ge=1)
    messages: tuple[ChatMessage, ...]
    tools: tuple[dict[str, Any], ...] | None = None
    is_completion: bool = False
