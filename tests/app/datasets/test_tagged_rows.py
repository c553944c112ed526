"""Entities in texts: tags of every scheme, and spans of characters."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.datasets.formats.tags import is_tag, join_tokens
from tests.support.reading import read

TOKENS = ["Ada", "Lovelace", "met", "Babbage", "in", "London"]


def spans_of(row):
    return [(row.text[span.start : span.end], span.label) for span in row.spans]


def tagged(tags, tokens=None):
    return json.dumps({"tokens": tokens or TOKENS, "tags": tags})


def only_fault(line):
    result = read(line)
    assert (len(result.faults), result.rows) == (1, [])
    return result.faults[0]


@pytest.mark.parametrize(
    "tags",
    [
        ["B-PER", "I-PER", "O", "B-PER", "O", "B-LOC"],
        ["I-PER", "I-PER", "O", "I-PER", "O", "I-LOC"],
        ["B-PER", "E-PER", "O", "S-PER", "O", "S-LOC"],
        ["B-PER", "L-PER", "O", "U-PER", "O", "U-LOC"],
    ],
    ids=["IOB2", "IOB1", "BIOES", "BILOU"],
)
def test_every_scheme_gives_the_same_spans(tags):
    result = read(tagged(tags))
    assert result.reader.format == "token_classification"
    (row,) = result.rows
    assert row.text == "Ada Lovelace met Babbage in London"
    assert spans_of(row) == [("Ada Lovelace", "PER"), ("Babbage", "PER"), ("London", "LOC")]


@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        (["B-X", "B-X"], [("a", "X"), ("b", "X")]),
        (["I-X", "B-X"], [("a", "X"), ("b", "X")]),
        (["I-X", "I-Y"], [("a", "X"), ("b", "Y")]),
        (["S-X", "I-X"], [("a", "X"), ("b", "X")]),
        (["O", "O"], []),
        (["B-a-b", "I-a-b"], [("a b", "a-b")]),
    ],
)
def test_neighbouring_entities_are_kept_apart(tags, spans):
    assert spans_of(read(tagged(tags, ["a", "b"])).rows[0]) == spans


pieces = st.lists(st.tuples(st.sampled_from(["", "X", "Y"]), st.integers(1, 3)), min_size=1, max_size=8)


def written(pieces, scheme):
    """Tags in a scheme, written by its definition, and the spans they stand for (in tokens)."""
    tags, spans, before = [], [], ""
    for label, size in pieces:
        if not label:
            tags += ["O"] * size
        else:
            spans.append((len(tags), len(tags) + size, label))
            first = "B" if scheme != "IOB1" or before == label else "I"
            body = [first, *["I"] * (size - 1)]
            if scheme == "BIOES":
                body = ["S"] if size == 1 else [*body[:-1], "E"]
            tags += [f"{letter}-{label}" for letter in body]
        before = label
    return tags, spans


@given(pieces, st.sampled_from(["IOB1", "IOB2", "BIOES"]))
def test_what_a_scheme_writes_is_read_back(pieces, scheme):
    tags, expected = written(pieces, scheme)
    tokens = [f"t{number}" for number in range(len(tags))]
    text, spans = join_tokens(tokens, tags)
    assert [(text[span.start : span.end].split(), span.label) for span in spans] == [
        (tokens[start:end], label) for start, end, label in expected
    ]


@pytest.mark.parametrize("column", ["spans", "entities"])
def test_spans_of_characters_come_in_order_whatever_theirs(column):
    spans = [{"start": 28, "end": 34, "label": "LOC", "score": 1}, [0, 12, "PER"]]
    (row,) = read(json.dumps({"text": "Ada Lovelace met Babbage in London", column: spans})).rows
    assert spans_of(row) == [("Ada Lovelace", "PER"), ("London", "LOC")]


def test_characters_are_counted_not_bytes():
    (row,) = read(json.dumps({"text": "😀é Zoë", "spans": [[3, 6, "PER"]]}, ensure_ascii=False)).rows
    assert spans_of(row) == [("Zoë", "PER")]


def test_tokens_and_spans_may_stand_in_one_file():
    result = read(tagged(["O"] * 6) + "\n" + json.dumps({"text": "x", "spans": []}))
    assert (len(result.rows), result.faults) == (2, [])


def test_names_of_tags_in_the_column_ner_tags_are_read():
    (row,) = read('{"id": "0", "tokens": ["a"], "ner_tags": ["B-X"]}').rows
    assert spans_of(row) == [("a", "X")]


@pytest.mark.parametrize(
    ("line", "check", "words"),
    [
        (tagged(["O"]), "length_mismatch", "has 6 tokens but 1 tags"),
        ('{"tokens": [], "tags": []}', "missing_content", '"tokens" is empty'),
        (tagged(["O", "O"], ["a", ""]), "missing_content", "token 2 is empty"),
        (tagged(["O"], ["\u00a0"]), "missing_content", "no token that can be seen"),
        (tagged(["PER"], ["a"]), "invalid_tag", "token 1: the tag 'PER' is neither O nor a type behind B-, I-, E-, S-"),
        (tagged(["B-"], ["a"]), "invalid_tag", "the tag 'B-'"),
        (tagged(["O", "E-X"], ["a", "b"]), "invalid_tag", "token 2: the tag 'E-X' ends an entity that has not begun"),
        (tagged(["B-Y", "E-X"], ["a", "b"]), "invalid_tag", "has not begun"),
        ('{"tokens": ["a"], "ner_tags": [3]}', "data_type", "Write the tags' names, not their numbers"),
        ('{"tokens": "a b", "tags": ["O"]}', "data_type", '"tokens" must be a list of strings'),
        ('{"text": "abc", "spans": {}}', "data_type", '"spans" must be a list'),
        ('{"text": "abc", "spans": ["x"]}', "invalid_span", "span 1 must have the form"),
        ('{"text": "abc", "spans": [{"start": 0, "end": 2}]}', "invalid_span", "span 1 must have the form"),
        ('{"text": "abc", "spans": [[0, 4, "X"]]}', "invalid_span", "does not lie in the text, which has 3 characters"),
        ('{"text": "abc", "spans": [[-1, 2, "X"]]}', "invalid_span", "does not lie in the text"),
        ('{"text": "abc", "spans": [[2, 1, "X"]]}', "invalid_span", "does not lie in the text"),
        ('{"text": "abc", "spans": [[1, 1, "X"]]}', "invalid_span", "is empty: end is the place after the last"),
        ('{"text": "abc", "spans": [[0, 1.0, "X"]]}', "invalid_span", "whole numbers"),
        ('{"text": "abc", "spans": [[false, 1, "X"]]}', "invalid_span", "whole numbers"),
        ('{"text": "a  b", "spans": [[1, 3, "X"]]}', "invalid_span", "the X span 1 to 3 holds spaces only"),
        ('{"text": "abc", "spans": [[0, 2, "X"], [1, 3, "Y"]]}', "overlapping_spans", "X span 0 to 2 and the Y span 1"),
        ('{"text": "abc", "spans": [[0, 1, ""]]}', "invalid_label", "span 1 has an empty label"),
        ('{"text": "", "spans": []}', "missing_content", '"text" is empty'),
    ],
)
def test_each_fault_is_named(line, check, words):
    fault = only_fault(line)
    assert fault.check == check
    assert words in fault.message


def test_all_faults_of_a_row_are_reported_at_once():
    result = read('{"text": "abc", "spans": [[0, 9, "X"], [1, 1, "X"], 3]}')
    assert result.checks == [(1, "invalid_span")] * 3


def test_no_line_of_json_looks_like_a_token_with_its_tag():
    assert not is_tag('B-12"}]}')
    assert is_tag("B-creative-work")
