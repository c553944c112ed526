"""What a grader needs of a model: one question, one whole answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Sampling:
    """How an answer is drawn; names as in a chat request, None leaves a field to its default."""

    max_completion_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    response_format: dict[str, Any] | None = None
    tools: list[dict[str, Any]] | None = None


@dataclass(frozen=True)
class Reply:
    """An answer, and the tokens it cost."""

    model: str
    message: dict[str, Any]
    """As in a chat completion: role, content, and tool_calls where there are any."""
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int

    @property
    def text(self) -> str:
        return self.message.get("content") or ""


class Asker(Protocol):
    """Knows the models it may be asked for."""

    def converses(self, model: str) -> bool:
        """Whether the model reads instructions, rather than a text to say something of."""
        ...

    async def ask(self, model: str, messages: Sequence[dict[str, Any]], sampling: Sampling) -> Reply:
        """`AppError` if there is no answer: `Unavailable` where asking again later may help."""
        ...
