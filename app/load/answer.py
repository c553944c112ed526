"""What one request came to, and how its streamed answer is read."""

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any


class AnswerFailed(Exception):  # noqa: N818 - an outcome of a request
    """The request is a failed one; `kind` groups it with others, the message is what the service said."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True)
class Answer:
    """Times are readings of the run's clock, in seconds; tokens are the service's count where it gives one."""

    first_token: float
    last_token: float
    ended: float
    answer_tokens: int
    prompt_tokens: int | None
    pieces: int
    is_counted_by_service: bool


class AnswerReader:
    """Takes the chunks of one answer as they come."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._first: float | None = None
        self._last: float | None = None
        self._pieces = 0
        self._usage: dict[str, Any] = {}

    async def read(self, lines: AsyncIterator[str]) -> Answer:
        """The whole answer. `AnswerFailed` if it breaks off or says an error."""
        async for line in lines:
            if not line.startswith("data:"):
                continue
            data = line.removeprefix("data:").strip()
            if data == "[DONE]":
                return self._answer()
            try:
                self._take(json.loads(data))
            except (ValueError, LookupError, TypeError, AttributeError) as error:
                raise AnswerFailed("not a chat stream", f"this is no chunk of an answer: {data[:200]}") from error
        raise AnswerFailed("broken stream", "the stream ended without its closing line")

    def _take(self, chunk: dict[str, Any]) -> None:
        if "error" in chunk:
            raise AnswerFailed("error in the stream", str(chunk["error"]["message"]))
        self._usage = chunk.get("usage") or self._usage
        now = self._clock()
        for choice in chunk["choices"]:
            delta = choice["delta"]
            # The chunk that only has the role says that the request was taken, not that a token is there.
            has_text = bool(delta.get("content") or delta.get("tool_calls") or delta.get("reasoning_content"))
            self._pieces += has_text
            if has_text or choice.get("finish_reason"):
                self._first = now if self._first is None else self._first
                # The end token has no text, but took its time and is counted by the service.
                self._last = now

    def _answer(self) -> Answer:
        if self._first is None or self._last is None:
            raise AnswerFailed("broken stream", "the stream had no token and no finish_reason")
        counted = self._usage.get("completion_tokens")
        return Answer(
            first_token=self._first,
            last_token=self._last,
            ended=self._clock(),
            answer_tokens=self._pieces if counted is None else int(counted),
            prompt_tokens=self._usage.get("prompt_tokens"),
            pieces=self._pieces,
            is_counted_by_service=counted is not None,
        )


@dataclass(frozen=True)
class Record:
    """One measured request. Its clock starts at its planned arrival, however late it could be sent.

    `planned`, `sent` and `ended` are readings of the run's clock in seconds; `answer` is None for a failed request.
    """

    block: int
    planned: float
    sent: float
    ended: float
    answer: Answer | None
    error_kind: str | None = None
    error: str | None = None

    @property
    def ttft_seconds(self) -> float | None:
        """From the planned arrival to the first token."""
        return None if self.answer is None else self.answer.first_token - self.planned

    @property
    def e2e_seconds(self) -> float | None:
        """From the planned arrival to the end of the stream."""
        return None if self.answer is None else self.answer.ended - self.planned

    @property
    def tpot_seconds(self) -> float | None:
        """Mean time between tokens after the first; None where an answer came in one piece."""
        answer = self.answer
        if answer is None or answer.answer_tokens < 2 or answer.last_token <= answer.first_token:
            return None
        return (answer.last_token - answer.first_token) / (answer.answer_tokens - 1)
