"""Answers as `chat.completion` and chunks, checked by the official client's own types."""

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from app.chat.answers import Collector
from app.chat.chat_shape import AnswerHead, ChatChunks, ChatForm, chat_completion
from app.contracts.generation import TokenDelta, TokenLogprob, TopLogprob
from tests.support.scripted_generator import done, saying

HEAD = AnswerHead("chatcmpl-1", 1_700_000_000, "ft:tiny:acme::abc", "fp_0123456789_base")
CALL = '<tool_call>{"name": "route", "arguments": {"queue": "app"}}</tool_call>'


def entry(text, logprob=-0.5, offset=0):
    top = TopLogprob(token=text, token_id=1, bytes=tuple(text.encode()), logprob=logprob)
    return TokenLogprob(
        token=text, token_id=1, bytes=tuple(text.encode()), logprob=logprob, text_offset=offset, top=(top,)
    )


def whole(lines, form=None, choices=1):
    collector = Collector(choices)
    for line in lines:
        collector.add(line)
    wire = chat_completion(HEAD, collector.answer, form or ChatForm())
    return ChatCompletion.model_validate(wire, strict=True)


def streamed(lines, form=None, choices=1):
    form = form or ChatForm()
    chunks = ChatChunks(HEAD, choices, form)
    wires = list(chunks.start())
    for line in lines[:-1]:
        wires += chunks.push(line)
    wires += chunks.end(lines[-1].usage)
    return [ChatCompletionChunk.model_validate(wire, strict=True) for wire in wires]


def test_a_whole_answer_has_its_text_reason_usage_and_fingerprint():
    answer = whole(saying("bill", "ing"))
    choice = answer.choices[0]
    assert (choice.message.role, choice.message.content, choice.finish_reason) == ("assistant", "billing", "stop")
    assert answer.usage is not None
    assert answer.usage.total_tokens == 5
    assert answer.system_fingerprint == "fp_0123456789_base"


def test_the_first_chunk_of_each_choice_has_the_role_and_the_last_the_reason():
    chunks = streamed(saying("bill", "ing", choices=2), choices=2)
    for index in range(2):
        own = [chunk.choices[0] for chunk in chunks if chunk.choices[0].index == index]
        assert [part.delta.role for part in own] == ["assistant", None, None, None]
        assert "".join(part.delta.content or "" for part in own) == "billing"
        assert [part.finish_reason for part in own] == [None, None, None, "stop"]


def test_a_usage_chunk_comes_last_and_has_no_choices():
    chunks = streamed(saying("hi"), ChatForm(include_usage=True))
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_logprobs_are_the_same_whole_and_streamed():
    deltas = [
        TokenDelta(index=0, text="", logprobs=(entry("\ufffd"),)),
        TokenDelta(index=0, text="é", logprobs=(entry("\ufffd"), entry("x"))),
        TokenDelta(index=0, text="", logprobs=(), finish_reason="length"),
    ]
    form = ChatForm(logprobs=True)
    answer = whole([*deltas, done()], form).choices[0]
    assert answer.logprobs is not None
    chunks = [chunk.choices[0].logprobs for chunk in streamed([*deltas, done()], form)]
    joined = [token for logprobs in chunks if logprobs is not None for token in logprobs.content or ()]
    assert joined == answer.logprobs.content
    assert len(joined) == 3
    assert joined[2].top_logprobs[0].bytes == [ord("x")]


def test_a_call_of_an_offered_tool_becomes_a_tool_call():
    form = ChatForm(tool_names=("route",))
    choice = whole(saying(CALL[:10], CALL[10:]), form).choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    assert choice.message.tool_calls is not None
    call = choice.message.tool_calls[0]
    assert call.type == "function"
    assert (call.function.name, call.function.arguments) == ("route", '{"queue": "app"}')
    parts = [chunk.choices[0] for chunk in streamed(saying(CALL[:10], CALL[10:]), form)]
    assert not any(part.delta.content for part in parts)
    assert parts[-2].delta.tool_calls is not None
    assert parts[-2].delta.tool_calls[0].index == 0
    assert parts[-1].finish_reason == "tool_calls"


def test_the_deprecated_form_of_a_call_answers_the_deprecated_request():
    choice = whole(saying(CALL), ChatForm(tool_names=("route",), is_function_style=True)).choices[0]
    assert choice.finish_reason == "function_call"
    assert choice.message.function_call is not None
    assert choice.message.tool_calls is None


@pytest.mark.parametrize("text", [CALL, '{"name": "route"}'])
def test_without_tools_in_the_request_text_stays_text(text):
    assert whole(saying(text)).choices[0].message.content == text


def test_warnings_are_an_extra_field_and_only_there_when_there_are_any():
    assert "warnings" not in whole(saying("x")).model_dump()
    assert whole(saying("x"), ChatForm(warnings=("careful",))).model_dump()["warnings"] == ["careful"]
