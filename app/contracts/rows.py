"""Canonical training rows: the shapes that leave every parser and enter the engine.

Rows are stored as JSON lines in UTF-8, all rows of a file of one `kind`. `line` is the 1-based line of the
source file (of its first line, where a row spans several), for reports.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

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
    """

    kind: Literal["chat"] = "chat"
    line: int = Field(ge=1)
    messages: tuple[ChatMessage, ...]
    tools: tuple[dict[str, Any], ...] | None = None
    is_completion: bool = False


class PreferenceRow(Contract):
    """One conversation with the answer that is wanted and the one that is not (both assistant messages)."""

    kind: Literal["preference"] = "preference"
    line: int = Field(ge=1)
    messages: tuple[ChatMessage, ...]
    tools: tuple[dict[str, Any], ...] | None = None
    preferred: ChatMessage
    non_preferred: ChatMessage


class LabelledText(Contract):
    """A text and its label; with several labels or none the file is multi-label."""

    kind: Literal["text_classification"] = "text_classification"
    line: int = Field(ge=1)
    text: str
    labels: tuple[str, ...] = Field(description="distinct, in the order of the file")


class Span(Contract):
    """Characters [start, end) of a text are an entity."""

    start: int = Field(ge=0)
    end: int = Field(gt=0)
    label: str


class TaggedText(Contract):
    """A text and its entities, which do not overlap. Rows of tokens and tags come as tokens joined by one space."""

    kind: Literal["token_classification"] = "token_classification"
    line: int = Field(ge=1)
    text: str
    spans: tuple[Span, ...] = Field(description="by ascending start")


class TextPair(Contract):
    """A source text and the text to write for it."""

    kind: Literal["summarization"] = "summarization"
    line: int = Field(ge=1)
    source: str
    target: str


Row = Annotated[
    ChatRow | PreferenceRow | LabelledText | TaggedText | TextPair,
    Field(discriminator="kind"),
]

row_adapter: TypeAdapter[Row] = TypeAdapter(Row)
