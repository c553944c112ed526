"""Answers in the shape of `text_completion`, whole and streamed, with echo and logprobs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from app.chat.answers import Answer, Choice, total_usage
from app.chat.chat_shape import AnswerHead, usage_wire
from app.contracts.generation import PromptScored, TokenDelta, TokenLogprob, Usage

Wire = dict[str, Any]


@dataclass(frozen=True)
class TextForm:
    """How this request wants its answer."""

    choices_per_prompt: int = 1
    logprobs: int | None = None
    include_usage: bool = False


def text_completion(head: AnswerHead, answers: Sequence[Answer], form: TextForm) -> Wire:
    """All choices of all prompts: choice j of prompt i has the index i x n + j."""
    choices = [
        _whole_choice(place * form.choices_per_prompt + index, choice, answer.prompt, form)
        for place, answer in enumerate(answers)
        for index, choice in enumerate(answer.choices)
    ]
    result = _envelope(head, choices)
    result["usage"] = usage_wire(total_usage([answer.usage for answer in answers]))
    return result


def _envelope(head: AnswerHead, choices: list[Wire]) -> Wire:
    return {
        "id": head.id,
        "object": "text_completion",
        "created": head.created,
        "model": head.model,
        "system_fingerprint": head.fingerprint,
        "choices": choices,
    }


def _whole_choice(index: int, choice: Choice, prompt: PromptScored | None, form: TextForm) -> Wire:
    logprobs = [*(_shown(prompt) if prompt is not None else ()), *choice.logprobs, *_ending(choice.ending)]
    text = (prompt.text if prompt is not None else "") + choice.text
    return _choice(index, text, logprobs, choice.finish_reason, form)


def _shown(prompt: PromptScored) -> Sequence[TokenLogprob]:
    """The tokens of the echoed text. A BOS that the serving engine put before it is left out.

    Such a token has whole characters of its own, yet the next token starts at offset 0 as well.
    """
    logprobs = prompt.logprobs or ()
    if len(logprobs) > 1 and logprobs[1].text_offset == 0 and logprobs[0].bytes and _is_text(logprobs[0]):
        return logprobs[1:]
    return logprobs


def _ending(token: TokenLogprob | None) -> Sequence[TokenLogprob]:
    """The token that ended an answer is listed, as a token that was drawn.

    Harnesses that score a text ask for one token more and drop the last entry unseen: it must be there.
    """
    return () if token is None else (token,)


def _is_text(entry: TokenLogprob) -> bool:
    try:
        bytes(entry.bytes).decode()
    except UnicodeDecodeError:
        return False
    return True


def _choice(index: int, text: str, logprobs: Sequence[TokenLogprob], finish_reason: str | None, form: TextForm) -> Wire:
    return {
        "index": index,
        "text": text,
        "logprobs": _logprobs_wire(logprobs, form.logprobs) if form.logprobs is not None else None,
        "finish_reason": finish_reason,
    }


def _logprobs_wire(logprobs: Sequence[TokenLogprob], alternatives: int) -> Wire:
    return {
        "tokens": [entry.token for entry in logprobs],
        "token_logprobs": [entry.logprob for entry in logprobs],
        "top_logprobs": [_top(entry) for entry in logprobs] if alternatives else None,
        "text_offset": [entry.text_offset for entry in logprobs],
    }


def _top(entry: TokenLogprob) -> dict[str, float] | None:
    """The alternatives and the token itself, by text; of tokens that read the same, the likeliest stays."""
    if entry.top is None or entry.logprob is None:
        return None
    result: dict[str, float] = {}
    for top in entry.top:
        result.setdefault(top.token, top.logprob)
    result.setdefault(entry.token, entry.logprob)
    return result


class TextChunks:
    """Turns the lines of one prompt's answer into chunks; with echo, the first of each choice is the prompt."""

    def __init__(self, head: AnswerHead, place: int, form: TextForm) -> None:
        self._head = head
        self._first = place * form.choices_per_prompt
        self._form = form

    def push(self, line: PromptScored | TokenDelta) -> Iterator[Wire]:
        if isinstance(line, PromptScored):
            for choice in range(self._form.choices_per_prompt):
                yield self._chunk(choice, line.text, _shown(line), None)
        elif line.text or line.logprobs or line.finish_reason is not None:
            logprobs = [*(line.logprobs or ()), *_ending(line.ending)]
            yield self._chunk(line.index, line.text, logprobs, line.finish_reason)

    def _chunk(self, choice: int, text: str, logprobs: Sequence[TokenLogprob], finish_reason: str | None) -> Wire:
        result = _envelope(self._head, [_choice(self._first + choice, text, logprobs, finish_reason, self._form)])
        if self._form.include_usage:
            result["usage"] = None
        return result


def usage_chunk(head: AnswerHead, usage: Usage) -> Wire:
    """The last chunk where `stream_options.include_usage` asks for it."""
    return _envelope(head, []) | {"usage": usage_wire(usage)}
