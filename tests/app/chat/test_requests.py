"""From requests to specs."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from app.chat.requests import chat_form, chat_spec, completion_specs
from app.chat.schemas import IGNORED_FIELDS, ChatRequest, CompletionRequest
from app.contracts.specs import BaseRef
from app.errors import InvalidInput

BASE = BaseRef(id="tiny", path="/bases/tiny", weights_sha256="a" * 64, context_length=128)
USER = {"role": "user", "content": "Where is my parcel?"}
TOOL = {"type": "function", "function": {"name": "route", "parameters": {"type": "object"}}}


def chat(**fields):
    return ChatRequest.model_validate({"model": "tiny", "messages": [USER], **fields})


def spec_of(**fields):
    return chat_spec(chat(**fields), BASE, None)


def test_without_a_limit_an_answer_may_fill_the_context():
    sampling = spec_of().sampling
    assert (sampling.max_new_tokens, sampling.clip_to_context) == (128, True)


def test_max_completion_tokens_wins_over_max_tokens():
    assert spec_of(max_tokens=5, max_completion_tokens=7).sampling.max_new_tokens == 7
    assert spec_of(max_tokens=5).sampling.max_new_tokens == 5
    assert spec_of(max_tokens=0).sampling.max_new_tokens == 0


def test_null_means_the_same_as_leaving_a_field_out():
    names = set(ChatRequest.model_fields) - {"model", "messages"}
    assert spec_of(**dict.fromkeys(names)) == spec_of()


def test_text_parts_are_joined_and_the_name_is_kept():
    parts = [{"type": "text", "text": "Where is "}, {"type": "text", "text": "it?"}]
    spec = spec_of(messages=[{"role": "user", "name": "ann", "content": parts}])
    assert spec.messages == ({"role": "user", "content": "Where is it?", "name": "ann"},)


@pytest.mark.parametrize("kind", ["image_url", "input_audio", "file", None])
def test_other_media_are_refused_by_place(kind):
    parts = [{"type": "text", "text": "Look:"}, {"type": kind}]
    with pytest.raises(InvalidInput, match=r"messages\[1\]\.content\[1\]") as caught:
        spec_of(messages=[USER, {"role": "user", "content": parts}])
    assert caught.value.param == "messages[1].content[1]"


def test_only_an_assistant_message_may_have_no_content():
    call = {"id": "call_1", "type": "function", "function": {"name": "route", "arguments": "{}"}}
    spec = spec_of(messages=[USER, {"role": "assistant", "content": None, "tool_calls": [call]}])
    assert spec.messages is not None
    assert spec.messages[1] == {"role": "assistant", "content": None, "tool_calls": [call]}
    with pytest.raises(InvalidInput, match=r"messages\[0\] has no content"):
        spec_of(messages=[{"role": "user", "content": None}])


def test_a_tool_choice_of_none_hides_the_tools_and_a_named_one_the_others():
    other = {"type": "function", "function": {"name": "close"}}
    assert spec_of(tools=[TOOL], tool_choice="none").tools is None
    assert spec_of(tools=[TOOL], tool_choice="auto").tools == (TOOL,)
    named = {"type": "function", "function": {"name": "close"}}
    assert spec_of(tools=[TOOL, other], tool_choice=named).tools == (other,)
    with pytest.raises(InvalidInput, match="'close', which is not among"):
        spec_of(tools=[TOOL], tool_choice=named)


def test_deprecated_functions_are_tools_for_the_template():
    assert spec_of(functions=[TOOL["function"]]).tools == (TOOL,)
    assert spec_of(functions=[TOOL["function"]], function_call="none").tools is None


def test_what_cannot_be_promised_is_said():
    request = chat(response_format={"type": "json_object"}, tools=[TOOL], tool_choice="required")
    warnings = chat_form(request, chat_spec(request, BASE, None)).warnings
    assert [warning.split()[0] for warning in warnings] == ["response_format", "tool_choice"]


def test_a_top_p_of_zero_leaves_the_likeliest_token_only():
    assert 0 < spec_of(top_p=0).sampling.top_p < 1e-6


def test_a_bias_of_nothing_is_dropped_and_a_token_that_is_no_number_refused():
    assert spec_of(logit_bias={"foo": 0, "7": -100}).sampling.logit_bias == {7: -100}
    with pytest.raises(ValidationError, match="not a token id"):
        chat(logit_bias={"foo": 1})


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"stop": list("abcde")}, "at most 4"),
        ({"stop": ""}, "must not be empty"),
        ({"top_logprobs": 3}, "needs logprobs"),
        ({"modalities": ["audio"]}, "must include 'text'"),
        ({"n": 17}, "less than or equal to 16"),
        ({"messages": []}, "at least 1"),
        ({"metadata": {f"key {i}": "" for i in range(17)}}, "at most 16"),
    ],
)
def test_what_would_be_misunderstood_is_refused(fields, reason):
    with pytest.raises(ValidationError, match=reason):
        chat(**fields)


def completion(**fields):
    return completion_specs(CompletionRequest.model_validate({"model": "tiny", **fields}), BASE, None)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("one", ["one"]),
        (["one", "two"], ["one", "two"]),
        ([1, 2, 3], [(1, 2, 3)]),
        ([[1, 2], [3]], [(1, 2), (3,)]),
    ],
)
def test_all_forms_of_a_prompt_are_read(prompt, expected):
    assert [spec.prompt for spec in completion(prompt=prompt)] == expected


def test_a_text_has_16_tokens_unless_told_otherwise():
    (default,) = completion(prompt="one")
    (asked,) = completion(prompt="one", max_tokens=100)
    assert (default.sampling.max_new_tokens, default.sampling.clip_to_context) == (16, True)
    assert (asked.sampling.max_new_tokens, asked.sampling.clip_to_context) == (100, False)


def test_best_of_may_only_repeat_n():
    assert completion(prompt="one", best_of=0)
    assert completion(prompt="one", best_of=2, n=2)[0].n == 2
    with pytest.raises(ValidationError, match="best_of must equal n"):
        completion(prompt="one", best_of=3)


def test_no_prompt_and_too_many_prompts_are_refused():
    with pytest.raises(InvalidInput, match="empty list"):
        completion(prompt=[])
    with pytest.raises(InvalidInput, match="at most 256"):
        completion(prompt=["a"] * 257)


def test_ignored_fields_are_documented_and_truly_ignored():
    page = (Path(__file__).parents[3] / "docs" / "chat.md").read_text("utf-8")
    assert not IGNORED_FIELDS & (set(ChatRequest.model_fields) | set(CompletionRequest.model_fields))
    assert [name for name in sorted(IGNORED_FIELDS) if f"`{name}`" not in page] == []
