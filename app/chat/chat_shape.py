"""Answers in the shape of `chat.completion` and `chat.completion.chunk`."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.chat.answers import Answer, Choice
from app.chat.tool_calls import ToolCall, ToolCallReader
from app.contracts.generation import TokenDelta, TokenLogprob, Usage
from app.ids import random_text

Wire = dict[str, Any]


@dataclass(frozen=True)
class AnswerHead:
    """What all objects of one answer carry. `fingerprint` names the weights that answered."""

    id: str
    created: int
    model: str
    fingerprint: str


@dataclass(frozen=True)
class ChatForm:
    """How this request wants its answer."""

    logprobs: bool = False
    tool_names: Collection[str] = ()
    is_function_style: bool = False
    include_usage: bool = False
    warnings: Sequence[str] = ()
    metadata: dict[str, str] | None = None


def chat_completion(head: AnswerHead, answer: Answer, form: ChatForm) -> Wire:
    """A whole answer."""
    result: Wire = {
        "id": head.id,
        "object": "chat.completion",
        "created": head.created,
        "model": head.model,
        "choices": [_whole_choice(index, choice, form) for index, choice in enumerate(answer.choices)],
        "usage": usage_wire(answer.usage),
        "service_tier": "default",
        "system_fingerprint": head.fingerprint,
    }
    if form.metadata is not None:
        result["metadata"] = form.metadata
    if form.warnings:
        result["warnings"] = list(form.warnings)
    if answer.prediction is not None:
        result["prediction"] = answer.prediction.model_dump(mode="json")
    return result


def _whole_choice(index: int, choice: Choice, form: ChatForm) -> Wire:
    content: str | None = choice.text
    calls: tuple[ToolCall, ...] = ()
    if form.tool_names:
        reader = ToolCallReader(form.tool_names)
        before = reader.push(choice.text)
        rest, calls = reader.finish()
        content = (before + rest) if not calls else (before.strip() or None)
    message: Wire = {"role": "assistant", "content": content, "refusal": None, "annotations": []}
    message |= _calls_wire(calls, form)
    return {
        "index": index,
        "message": message,
        "logprobs": _logprobs_wire(choice.logprobs) if form.logprobs and not calls else None,
        "finish_reason": _finish_reason(choice.finish_reason, calls, form),
    }


def _finish_reason(reason: str | None, calls: Sequence[ToolCall], form: ChatForm) -> str | None:
    if not calls:
        return reason
    return "function_call" if form.is_function_style else "tool_calls"


def _calls_wire(calls: Sequence[ToolCall], form: ChatForm, *, numbered: bool = False) -> Wire:
    if not calls:
        return {}
    if form.is_function_style:
        return {"function_call": {"name": calls[0].name, "arguments": calls[0].arguments}}
    return {
        "tool_calls": [
            ({"index": index} if numbered else {})
            | {
                "id": f"call_{random_text(24)}",
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for index, call in enumerate(calls)
        ]
    }


def _logprobs_wire(logprobs: Sequence[TokenLogprob]) -> Wire:
    return {
        "content": [
            {
                "token": entry.token,
                "logprob": entry.logprob,
                "bytes": list(entry.bytes),
                "top_logprobs": [
                    {"token": top.token, "logprob": top.logprob, "bytes": list(top.bytes)} for top in entry.top or ()
                ],
            }
            for entry in logprobs
        ],
        "refusal": None,
    }


def usage_wire(usage: Usage) -> Wire:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


@dataclass
class _OpenChoice:
    """One choice while it streams."""

    reader: ToolCallReader | None
    has_role: bool = False
    held: list[TokenLogprob] = field(default_factory=list)


class ChatChunks:
    """Turns the deltas of one answer into chunks. The first of each choice has the role."""

    def __init__(self, head: AnswerHead, choices: int, form: ChatForm) -> None:
        self._head = head
        self._form = form
        self._choices = [
            _OpenChoice(ToolCallReader(form.tool_names) if form.tool_names else None) for _ in range(choices)
        ]

    def start(self) -> Iterator[Wire]:
        """The first chunk of every choice: sent once the engine has taken the request."""
        for index in range(len(self._choices)):
            yield self._chunk(index, {"role": "assistant", "content": "", "refusal": None})

    def push(self, line: TokenDelta) -> Iterator[Wire]:
        """The chunks one step leads to; a step that only completes half a character leads to none."""
        choice = self._choices[line.index]
        choice.held += line.logprobs or ()
        text = choice.reader.push(line.text) if choice.reader is not None else line.text
        calls: tuple[ToolCall, ...] = ()
        if line.finish_reason is not None and choice.reader is not None:
            rest, calls = choice.reader.finish()
            text += rest
        if text or (choice.held and choice.reader is None):
            yield self._chunk(line.index, {"content": text}, logprobs=choice.held)
            choice.held = []
        if calls:
            yield self._chunk(line.index, _calls_wire(calls, self._form, numbered=True))
        if line.finish_reason is not None:
            yield self._chunk(line.index, {}, finish_reason=_finish_reason(line.finish_reason, calls, self._form))

    def end(self, usage: Usage) -> Iterator[Wire]:
        """What follows the last choice."""
        if self._form.include_usage:
            yield self._envelope([], usage_wire(usage))

    def _chunk(
        self,
        index: int,
        delta: Wire,
        *,
        logprobs: Sequence[TokenLogprob] = (),
        finish_reason: str | None = None,
    ) -> Wire:
        choice = {
            "index": index,
            "delta": delta,
            "logprobs": _logprobs_wire(logprobs) if self._form.logprobs and logprobs else None,
            "finish_reason": finish_reason,
        }
        return self._envelope([choice], None)

    def _envelope(self, choices: list[Wire], usage: Wire | None) -> Wire:
        result: Wire = {
            "id": self._head.id,
            "object": "chat.completion.chunk",
            "created": self._head.created,
            "model": self._head.model,
            "service_tier": "default",
            "system_fingerprint": self._head.fingerprint,
            "choices": choices,
        }
        if self._form.include_usage:
            result["usage"] = usage
        if self._form.warnings:
            result["warnings"] = list(self._form.warnings)
        return result
