"""Texts to be written for texts, and answers that are preferred to others."""

import json

import pytest

from tests.support.reading import read

USER = {"role": "user", "content": "Hi"}
GOOD = {"role": "assistant", "content": "Hello!"}
BAD = {"role": "assistant", "content": "What?"}


def preference(messages=(USER,), preferred=(GOOD,), non_preferred=(BAD,), extra_input=(), **extra):
    return json.dumps(
        {
            "input": {"messages": list(messages), **dict(extra_input)},
            "preferred_output": list(preferred),
            "non_preferred_output": list(non_preferred),
            **extra,
        }
    )


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("source", "target"),
        ("document", "summary"),
        ("text", "summary"),
        ("article", "highlights"),
        ("dialogue", "section_text"),
        ("dialogue", "summary"),
    ],
)
def test_a_source_and_its_target_become_a_pair(source, target):
    result = read(json.dumps({source: " a long text ", target: "short\n", "id": 1}))
    (row,) = result.rows
    assert (row.kind, row.source, row.target) == ("summarization", " a long text ", "short\n")
    assert (result.reader.format, result.reader.ignored_columns) == ("summarization", ("id",))


@pytest.mark.parametrize(
    ("line", "check", "words"),
    [
        ('{"source": "x", "target": " "}', "missing_content", '"target" is empty'),
        ('{"source": "", "target": "x"}', "missing_content", '"source" is empty'),
        ('{"source": "x", "target": null}', "missing_content", '"target" must be a string'),
        ('{"source": "x", "target": ["y"]}', "missing_content", '"target" must be a string'),
        ('{"article": "x", "document": "y", "summary": "z"}', "ambiguous_columns", "could be the source"),
    ],
)
def test_each_fault_of_a_pair_is_named(line, check, words):
    (fault,) = read(line).faults
    assert fault.check == check
    assert words in fault.message


def test_a_preference_row_keeps_its_conversation_and_both_answers():
    tool = {"type": "function", "function": {"name": "f"}}
    line = preference([USER, GOOD, USER], extra_input={"tools": [tool], "parallel_tool_calls": True})
    result = read(line, method="dpo")
    (row,) = result.rows
    assert result.reader.format == "preference"
    assert [message.role for message in row.messages] == ["user", "assistant", "user"]
    assert (row.preferred.content, row.non_preferred.content, row.tools) == ("Hello!", "What?", (tool,))


@pytest.mark.parametrize(
    ("line", "check", "words"),
    [
        (preference(extra=1), "extra_key", 'contains an extra "extra".'),
        (preference(extra_input={"model": 1}), "extra_key", '"input" contains an extra "model".'),
        (preference([]), "missing_messages_list", "at least one message"),
        (preference([USER, GOOD]), "invalid_value", "must end before the answer"),
        (preference([{"role": "bot"}]), "unrecognized_role", "message 1 has the unrecognized role 'bot'"),
        (preference(preferred=[]), "example_missing_assistant_message", '"preferred_output" must be a list of one'),
        (preference(non_preferred=[BAD, BAD]), "example_missing_assistant_message", '"non_preferred_output" must be'),
        (preference(preferred=[USER]), "example_missing_assistant_message", "must have the role 'assistant'"),
        (preference(preferred=[{"role": "assistant"}]), "missing_content", 'is missing "content"'),
        (preference(preferred=[{**GOOD, "weight": 0}]), "invalid_value", "the weight 0 cannot be learned from"),
        ('{"input": 1, "preferred_output": []}', "missing_messages_list", '"input" must be a dictionary'),
        ('{"messages": []}', "mixed_format", "is in the chat format, but the file began in the preference"),
    ],
)
def test_each_fault_of_a_preference_row_is_named(line, check, words):
    faults = read(preference() + "\n" + line, method="dpo").faults
    assert (check, 2) in [(fault.check, fault.line) for fault in faults]
    assert any(words in fault.message for fault in faults)


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ('{"messages": []}', "chat"),
        ('{"prompt": "a", "completion": "b"}', "completion"),
        ('{"text": "a", "label": "b"}', "text_classification"),
    ],
)
def test_dpo_takes_nothing_but_preferences(line, kind):
    assert read(line, method="dpo").reader.refused == kind


def test_a_reader_that_asks_for_no_method_takes_all():
    assert len(read(preference(), method=None).rows) == 1
    assert len(read('{"prompt": "a", "completion": "b"}', method=None).rows) == 1
