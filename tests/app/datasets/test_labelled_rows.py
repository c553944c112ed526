"""Texts with labels, from JSON lines."""

import json

import pytest

from app.datasets.formats.findings import MAX_FINDINGS
from tests.support.reading import read

GOOD = '{"text": "Where is my card?", "label": "card"}\n'


def only_fault(line):
    result = read(GOOD + line + "\n")
    assert len(result.faults) == 1, result.faults
    assert result.faults[0].line == 2
    return result.faults[0]


def test_a_text_and_its_label_become_a_row():
    result = read(GOOD)
    assert (result.reader.format, result.faults) == ("text_classification", [])
    assert result.rows[0].model_dump() == {
        "kind": "text_classification",
        "line": 1,
        "text": "Where is my card?",
        "labels": ("card",),
    }


@pytest.mark.parametrize(("label", "text"), [(" a b ", "a b"), (7, "7"), (0, "0"), (True, "true"), (False, "false")])
def test_numbers_and_truth_values_become_their_text(label, text):
    (row,) = read(json.dumps({"text": "x", "label": label})).rows
    assert row.labels == (text,)


@pytest.mark.parametrize(
    ("labels", "kept"), [(["b", "a"], ("b", "a")), ([], ()), (["a", "a"], ("a",)), ([1, True], ("1", "true"))]
)
def test_a_list_holds_any_number_of_labels(labels, kept):
    for column in ("labels", "label"):
        (row,) = read(json.dumps({"text": "x", column: labels})).rows
        assert row.labels == kept


@pytest.mark.parametrize("text", ["text", "sentence", "utterance", "content", "question"])
@pytest.mark.parametrize("label", ["label", "labels", "category", "intent", "class", "target"])
def test_the_usual_names_of_columns_are_understood(text, label):
    result = read(json.dumps({text: "x", label: "y"}))
    assert (result.reader.format, len(result.rows), result.faults) == ("text_classification", 1, [])


def test_columns_that_are_not_needed_are_named_once_and_ignored():
    result = read('{"id": 1, "text": "x", "label": "y"}\n{"id": 2, "text": "x", "label": "z", "note": null}')
    assert (len(result.rows), result.reader.ignored_columns) == (2, ("id", "note"))


def test_the_columns_own_name_beats_another_that_could_be_meant():
    (row,) = read('{"text": "x", "category": "c", "label": "l"}').rows
    assert row.labels == ("l",)


@pytest.mark.parametrize(
    ("line", "check", "words"),
    [
        ('{"text": "x"}', "missing_columns", "Found: text. The text-classification format needs a text"),
        ('{"text": "x", "label": ""}', "invalid_label", "empty label"),
        ('{"text": "x", "label": null}', "invalid_label", "a row without any label has an empty list"),
        ('{"text": "x", "label": 1.5}', "invalid_label", "must be a string, a whole number, true or false"),
        ('{"text": "x", "labels": ["a", {}]}', "invalid_label", "must be a string"),
        ('{"text": "x", "label": "' + "y" * 201 + '"}', "invalid_label", "a label of 201 characters"),
        (r'{"text": "x", "label": "a\nb"}', "invalid_label", "one line"),
        ('{"text": "  ", "label": "a"}', "missing_content", '"text" is empty'),
        ('{"text": 7, "label": "a"}', "missing_content", '"text" must be a string'),
        (
            '{"content": "x", "question": "y", "label": "a"}',
            "ambiguous_columns",
            "could be the text: content, question",
        ),
        ('{"text": "x", "label": "a", "labels": []}', "ambiguous_columns", "could be the label: label, labels"),
        ('{"messages": []}', "mixed_format", "is in the chat format, but the file began in the text-classification"),
        ('{"source": "x", "target": "y"}', "mixed_format", "is in the summarization format"),
        ("[]", "data_type", "not a dictionary"),
    ],
)
def test_each_fault_is_named_with_its_line(line, check, words):
    fault = only_fault(line)
    assert fault.check == check
    assert words in fault.message


def test_rows_of_two_possible_kinds_are_never_guessed_but_read_as_the_task_says():
    line = '{"text": "x", "label": "a", "summary": "s"}'
    result = read(line)
    assert [fault.check for fault in result.faults] == ["ambiguous_format"]
    assert "text-classification or summarization: name the one" in result.faults[0].message
    assert read(line, task="text-classification").rows[0].labels == ("a",)
    assert read(line, task="summarization").rows[0].target == "s"


def test_text_and_target_are_labels_unless_the_task_says_otherwise():
    line = '{"text": "x", "target": "y"}'
    assert read(line).rows[0].labels == ("y",)
    assert read(line, task="summarization").rows[0].target == "y"


@pytest.mark.parametrize(
    "line",
    ['{"messages": [{"role": "user", "content": "x"}], "text": "x", "label": "y"}', '{"prompt": "x", "label": 1}'],
)
def test_a_row_with_openais_keys_stays_what_it_is(line):
    result = read(line)
    assert result.rows == []
    assert "extra_key" in [fault.check for fault in result.faults]


@pytest.mark.parametrize("task", ["chat", "token-classification", "summarization"])
def test_another_task_refuses_the_file(task):
    result = read(GOOD * 3, task=task)
    assert (result.reader.refused, result.rows, result.faults) == ("text_classification", [], [])


@pytest.mark.parametrize("line", ['{"messages": []}', '{"prompt": "a", "completion": "b"}', '{"preferred_output": []}'])
def test_chat_rows_are_no_labelled_texts_even_if_a_task_asks_for_them(line):
    assert read(line, task="text-classification").reader.refused is not None


def test_a_row_with_endless_faults_is_cut_short():
    faults = read(json.dumps({"text": "x", "labels": [None] * 5000})).faults
    assert len(faults) == MAX_FINDINGS + 1
    assert faults[-1].check == "too_many_faults"
