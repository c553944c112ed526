"""CoNLL: sentences parted by blank lines, tags in the last column."""

import pytest

from app.datasets.formats.lines import MAX_LINE_BYTES
from tests.support.reading import read


def spans_of(row):
    return [(row.text[span.start : span.end], span.label) for span in row.spans]


def test_sentences_are_parted_by_blank_lines_of_any_kind():
    data = "Ada\tB-PER\nleft\tO\n\t\nIn\tO\nRome\tB-LOC\n   \n\nEnd\tO"
    result = read(data, "train.conll")
    assert (result.reader.format, result.faults, result.reader.examples) == ("token_classification", [], 3)
    assert [(row.line, row.text, spans_of(row)) for row in result.rows] == [
        (1, "Ada left", [("Ada", "PER")]),
        (4, "In Rome", [("Rome", "LOC")]),
        (8, "End", []),
    ]


def test_columns_may_be_parted_by_spaces_and_there_may_be_more_of_them():
    data = "-DOCSTART- -X- -X- O\n\nEU NNP I-NP I-ORG\r\nrejects VBZ I-VP O\r\n\r\n"
    (row,) = read(data, "eng.train.conll").rows
    assert (row.line, row.text, spans_of(row)) == (3, "EU rejects", [("EU", "ORG")])


def test_a_token_may_hold_spaces_where_tabs_part_the_columns():
    (row,) = read("New York\tB-LOC\n\u00a0x\tO\n", "x.conll").rows
    assert (row.text, spans_of(row)) == ("New York \u00a0x", [("New York", "LOC")])


def test_comments_before_a_sentence_are_skipped_and_a_sign_with_a_tag_is_a_token():
    result = read("# id = 7\n# text = a b\n#\tO\n#\tB-X\n", "x.conll")
    assert (result.faults, result.rows[0].text) == ([], "# #")


@pytest.mark.parametrize("filename", ["x.conll", "x.txt", "x.tsv", "x.annotated", None])
def test_a_token_with_its_tag_on_the_first_line_tells_the_syntax(filename):
    assert read("a\tB-X\n\nb\tO\n", filename).reader.format == "token_classification"


def test_a_brace_may_be_a_token():
    assert read("{\tO\n}\tO\n", "x.txt").rows[0].text == "{ }"


@pytest.mark.parametrize(
    ("line", "check", "words"),
    [
        ("alone", "missing_tag", "the line 'alone' has one column; a line holds a token first and its tag last"),
        ("a\t", "missing_tag", "one column"),
        ("a\tPER", "invalid_tag", "token 2: the tag 'PER' is neither O nor"),
        ("\tO", "missing_content", "token 2 is empty"),
        ("a\tE-X", "invalid_tag", "ends an entity that has not begun"),
        ("a\x00\tO", "invalid_character", "NUL"),
        ("y" * MAX_LINE_BYTES + "\tO", "line_too_long", "longer than 1,000,000 bytes"),
    ],
)
def test_a_fault_is_named_with_the_tokens_own_line_and_spoils_its_sentence_alone(line, check, words):
    result = read(f"good\tO\n\nfirst\tO\n{line}\n\nlast\tO\n", "x.conll")
    assert result.checks == [(4, check)]
    assert words in result.faults[0].message
    assert result.faults[0].message.startswith("Example 2")
    assert [row.text for row in result.rows] == ["good", "last"]


def test_all_faults_of_a_sentence_are_reported():
    assert read("a\nb\nc\tO\n", "x.conll").checks == [(1, "missing_tag"), (2, "missing_tag")]


def test_a_sentence_without_end_is_cut_off():
    result = read("word\tO\n" * (MAX_LINE_BYTES // 7 + 10) + "\nlast\tO\n", "x.conll")
    assert result.checks == [(1, "line_too_long")]
    assert "Put a blank line behind each sentence" in result.faults[0].message
    assert [row.text for row in result.rows] == ["last"]


def test_a_byte_order_mark_is_a_fault_here():
    assert read(b"\xef\xbb\xbfa\tO\n", "x.conll").checks == [(1, "byte_order_mark")]
