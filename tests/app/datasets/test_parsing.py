"""Rows and faults of one file: every fault at once, with its line, in OpenAI's words."""

import json

import pytest

from app.contracts.rows import ChatRow
from app.datasets.formats.lines import MAX_LINE_BYTES
from app.datasets.parsing import FileReader
from app.datasets.report import Fault


def read(data, *, chunk_bytes=None):
    data = data if isinstance(data, bytes) else data.encode()
    step = chunk_bytes or max(1, len(data))
    reader = FileReader()
    items = list(reader.read(data[start : start + step] for start in range(0, len(data), step)))
    rows = [item for item in items if isinstance(item, ChatRow)]
    return reader, rows, [item for item in items if isinstance(item, Fault)]


def chat(*messages, **extra):
    return json.dumps({"messages": list(messages), **extra}, ensure_ascii=False)


def user(content="Hi"):
    return {"role": "user", "content": content}


def assistant(content="Hello", **extra):
    return {"role": "assistant", "content": content, **extra}


GOOD = chat(user(), assistant())


def only_fault(line):
    """The single fault of a file whose second line is `line`."""
    _, _, faults = read(GOOD + "\n" + line + "\n")
    assert len(faults) == 1, faults
    assert faults[0].line == 2
    assert faults[0].message.startswith("Example 2")
    assert faults[0].message.endswith("(line 2)")
    return faults[0]


def test_a_chat_row_keeps_its_messages_tools_weights_and_line():
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"x": null}'}}
    tool = {"type": "function", "function": {"name": "f", "parameters": {"default": None}}}
    line = chat(
        {"role": "system", "content": "Be kind"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "name": "ann"},
        assistant(None, tool_calls=[call]),
        {"role": "tool", "tool_call_id": "c1", "content": "42"},
        assistant("first", weight=0),
        user(),
        assistant("last", weight=1, refusal=None, annotations=[]),
        tools=[tool],
        parallel_tool_calls=False,
    )
    reader, rows, faults = read("\n" + line)
    assert faults == []
    assert reader.format == "chat"
    (row,) = rows
    assert row.line == 2
    assert [m.content for m in row.messages] == ["Be kind", "ab", None, "42", "first", "Hi", "last"]
    assert [m.weight for m in row.messages] == [None, None, None, None, 0, None, 1]
    assert row.messages[2].tool_calls == (call,)
    assert row.tools == (tool,)
    assert ChatRow.model_validate_json(row.model_dump_json()) == row


def test_a_prompt_with_its_completion_becomes_two_messages_without_a_template():
    reader, (row,), faults = read('{"prompt": "2+2=", "completion": " 4"}')
    assert (reader.format, faults, row.is_completion) == ("completion", [], True)
    assert [(m.role, m.content) for m in row.messages] == [("user", "2+2="), ("assistant", " 4")]


def test_openais_older_function_fields_become_tools():
    line = chat(
        user(),
        {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "1"},
        assistant(),
        functions=[{"name": "f"}],
    )
    _, (row,), faults = read(line)
    assert faults == []
    assert row.tools == ({"type": "function", "function": {"name": "f"}},)
    assert row.messages[1].tool_calls[0]["function"]["name"] == "f"


@pytest.mark.parametrize(
    ("line", "check", "words"),
    [
        ("[1]", "data_type", "every line is a JSON dictionary. Line 2 is not a dictionary"),
        ('{"messages": [}', "invalid_json", "cannot be parsed. Error: line contains invalid json: Expecting value"),
        ("{}", "missing_messages_list", 'is missing key "messages"'),
        ('{"messages": []}', "missing_messages_list", "at least one message"),
        ('{"messages": {}}', "missing_messages_list", "at least one message"),
        (chat(user(), assistant(), weight=1), "extra_key", 'contains an extra "weight".'),
        (chat("hi", assistant()), "data_type", "message 1 is not a dictionary"),
        (
            chat({"content": "x"}, assistant()),
            "message_missing_key",
            "message 1 Discriminator 'role' is missing in value",
        ),
        (chat({"role": "bot", "content": "x"}, assistant()), "unrecognized_role", "unrecognized role 'bot'"),
        (chat({"role": ["x"], "content": "x"}, assistant()), "unrecognized_role", "unrecognized role"),
        (chat({"role": "user"}, assistant()), "missing_content", 'message 1 (user) is missing "content"'),
        (chat(user(), assistant(None)), "missing_content", 'message 2 (assistant) is missing "content"'),
        (chat(user(7), assistant()), "missing_content", '"content" must be a string'),
        (chat(user([{"type": "image_url"}]), assistant()), "invalid_value", "only text can be trained on"),
        (chat({**user(), "mood": "x"}, assistant()), "message_unrecognized_key", 'message 1 contains an extra "mood".'),
        (chat({**user(), "weight": 1}, assistant()), "message_unrecognized_key", 'contains an extra "weight".'),
        (chat(user(), assistant(weight=2)), "invalid_value", '"weight" must be 0 or 1'),
        (chat(user(), assistant(weight=True)), "invalid_value", '"weight" must be 0 or 1'),
        (chat(user(), assistant(weight=0)), "invalid_value", "no assistant message to learn from"),
        (chat(user()), "example_missing_assistant_message", "no message with the role 'assistant'"),
        (
            chat(assistant(), user()),
            "example_missing_assistant_message",
            "the last message must have the role 'assistant'",
        ),
        (chat({"role": "tool", "content": "x"}, assistant()), "message_missing_key", '"tool_call_id"'),
        (chat(user(), assistant(None, tool_calls=[{"id": "x"}])), "invalid_value", "tool call 1 must have the form"),
        (chat(user(), assistant(), tools=[]), "invalid_value", "list of 1 to 128 tools"),
        (chat(user(), assistant(), tools=[{"name": "f"}]), "invalid_value", "tool 1 must have the form"),
        (chat(user(), assistant(), parallel_tool_calls=1), "invalid_value", "must be true or false"),
        (
            '{"prompt": "a", "completion": "b"}',
            "mixed_format",
            "is in the completion format, but the file began in the chat",
        ),
        ('{"preferred_output": []}', "mixed_format", "is in the preference format"),
        ('{"messages": 1, "messages": 2}', "duplicate_key", 'the key "messages" twice'),
        ('{"messages": NaN}', "invalid_json", "NaN is not a JSON number"),
        ('{"messages": 1e999}', "invalid_json", "too large"),
        ('{"messages": ' + "9" * 5000 + "}", "invalid_json", "cannot be parsed"),
        (chat(user("x"), assistant()).replace('"x"', '"\\ud800"'), "invalid_character", "surrogate"),
        (chat(user("x"), assistant()).replace('"x"', '"\\u0000"'), "invalid_character", "NUL"),
        ("[" * 100_000, "too_deep", "nested deeper than 32"),
        ('{"messages": ' + "[" * 40 + "]" * 40 + "}", "too_deep", "nested deeper than 32"),
        ('{"a": "' + "x" * MAX_LINE_BYTES + '"}', "line_too_long", "longer than 1,000,000 bytes"),
    ],
)
def test_each_fault_is_named_with_its_line(line, check, words):
    fault = only_fault(line)
    assert fault.check == check
    assert words in fault.message


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\xef\xbb\xbf" + GOOD.encode(), "byte order mark (BOM, the bytes EF BB BF)"),
        ("\ufeff".encode("utf-16-le") + b"{", "UTF-16"),
        (b'{"a": "\xff"}', "not valid UTF-8: byte 0xff at position 7"),
        (b'{"a": 1}\x00', "NUL"),
    ],
)
def test_bytes_that_are_no_clean_utf8_are_named(data, words):
    _, rows, faults = read(data)
    assert rows == []
    assert words in faults[0].message


def test_a_backslash_before_u0000_is_ordinary_text():
    _, rows, faults = read(chat(user("\\u0000"), assistant()))
    assert (len(rows), faults) == (1, [])


def test_all_faults_of_a_row_are_reported_at_once():
    _, _, faults = read(chat({"role": "bot"}, {"role": "user"}, "x", extra=1))
    assert [fault.check for fault in faults] == [
        "extra_key",
        "unrecognized_role",
        "missing_content",
        "data_type",
        "example_missing_assistant_message",
    ]


def test_unusual_line_separators_inside_a_string_do_not_end_the_line():
    text = "a\u2028b\u0085c\x0bd"
    line = json.dumps({"messages": [user("x"), assistant("y")]}).replace("x", text.replace("\x0b", "\\u000b"))
    _, (row,), faults = read(line + "\r\n\n")
    assert faults == []
    assert row.messages[0].content == text


@pytest.mark.parametrize("chunk_bytes", [1, 7, 64])
def test_the_result_does_not_depend_on_how_the_bytes_arrive(chunk_bytes):
    data = "\n".join([GOOD, "", "{", chat(user("ü"), assistant("…")), "[]"])
    assert read(data, chunk_bytes=chunk_bytes)[1:] == read(data)[1:]


def test_the_example_number_counts_examples_and_the_line_number_lines():
    _, _, (fault,) = read(f"{GOOD}\n\n\n{{}}\n")
    assert (fault.line, fault.message) == (4, 'Example 2 is missing key "messages" (line 4)')


def test_a_file_of_neither_kind_says_what_was_expected():
    _, _, (fault,) = read('{"text": "x"}')
    assert "Unexpected file format, expected either prompt/completion pairs or chat messages." in fault.message


def test_a_faulty_first_row_does_not_decide_the_format():
    reader, rows, faults = read('{"prompt": 1, "completion": "x"}\n' + GOOD)
    assert reader.format == "chat"
    assert (len(rows), len(faults)) == (1, 1)


def test_preference_data_end_the_reading_of_a_supervised_job():
    reader, rows, faults = read('{"input": {}, "preferred_output": [], "non_preferred_output": []}\n' + GOOD)
    assert (reader.is_preference, reader.is_broken_off, rows, faults) == (True, True, [], [])
