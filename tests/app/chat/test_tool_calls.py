"""Tool calls in text, whole and in pieces."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.chat.tool_calls import ToolCall, ToolCallReader, parse_tool_calls

NAMES = ("route_ticket", "close_ticket")
ONE = (ToolCall("route_ticket", '{"queue": "billing"}'),)


@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>{"name": "route_ticket", "arguments": {"queue": "billing"}}</tool_call>',
        '<tool_call>\n[{"name": "route_ticket", "arguments": {"queue": "billing"}}]\n</tool_call>\n',
        '[TOOL_CALLS][{"name": "route_ticket", "arguments": {"queue": "billing"}}]',
        '{"name": "route_ticket", "parameters": {"queue": "billing"}}',
        '<|python_tag|>{"name": "route_ticket", "parameters": {"queue": "billing"}}',
        '{"name": "route_ticket", "arguments": "{\\"queue\\": \\"billing\\"}"}',
    ],
)
def test_the_conventions_of_common_templates_are_read(text):
    assert parse_tool_calls(text, NAMES) == ONE


def test_two_calls_one_after_the_other_are_both_read():
    text = '<tool_call>{"name": "route_ticket"}</tool_call>\n<tool_call>{"name": "close_ticket"}</tool_call>'
    assert [call.name for call in parse_tool_calls(text, NAMES)] == ["route_ticket", "close_ticket"]


@pytest.mark.parametrize(
    "text",
    [
        "billing",
        '{"name": "delete_everything", "arguments": {}}',
        '{"queue": "billing"}',
        '{"name": "route_ticket", "arguments": 3}',
        '<tool_call>{"name": "route_ticket"',
        '<tool_call>{"name": "route_ticket"}</tool_call> and some words',
        "[" * 100_000,
        "",
    ],
)
def test_anything_else_stays_text(text):
    assert parse_tool_calls(text, NAMES) == ()
    reader = ToolCallReader(NAMES)
    assert (reader.push(text) + reader.finish()[0]) == text


@given(st.text(alphabet='<tool_ca>{}[]"name: \n', max_size=60), st.integers(1, 7))
def test_a_reader_loses_no_character_of_text(text, size):
    reader = ToolCallReader(NAMES)
    shown = "".join(reader.push(text[start : start + size]) for start in range(0, len(text), size))
    assert shown + reader.finish()[0] == text


@given(st.integers(1, 40))
def test_a_call_after_some_words_is_never_shown_as_text(size):
    text = 'I will route it. <tool_call>{"name": "route_ticket", "arguments": {"queue": "billing"}}</tool_call>'
    reader = ToolCallReader(NAMES)
    shown = "".join(reader.push(text[start : start + size]) for start in range(0, len(text), size))
    assert shown == "I will route it. "
    assert reader.finish() == ("", ONE)
