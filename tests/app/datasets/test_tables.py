"""CSV and TSV: quotes, line breaks in cells, marks of Excel, and every fault with its line."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.datasets.formats import records
from app.datasets.formats.lines import MAX_LINE_BYTES, physical_lines
from app.datasets.formats.records import parse_records
from tests.support.reading import read

HEADER = "text,label\n"


def texts(result):
    return [(row.line, row.text, row.labels) for row in result.rows]


def test_quoted_cells_may_hold_commas_quotes_and_line_breaks():
    result = read('text,label\r\n"a, ""b""\r\nc",x\r\nd,y\r\n', "rows.csv")
    assert result.faults == []
    assert texts(result) == [(2, 'a, "b"\nc', ("x",)), (4, "d", ("y",))]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("filename", ["rows.csv", "rows.tsv", "rows.txt", None])
def test_the_header_tells_the_delimiter(delimiter, filename):
    result = read(f"Text{delimiter} LABEL \nhi{delimiter}a\n", filename)
    assert texts(result) == [(2, "hi", ("a",))]


def test_the_mark_that_excel_puts_before_a_table_is_read_over():
    assert texts(read(b"\xef\xbb\xbf" + b"text,label\nx,a\n", "rows.csv")) == [(2, "x", ("a",))]
    assert texts(read(b"\xef\xbb\xbf" + b'"text","label"\nx,a\n', "rows.csv")) == [(2, "x", ("a",))]


def test_blank_lines_and_empty_rows_are_no_rows():
    result = read("\n\ntext,label\n\nx,a\n,\n  \ny,b\n\n", "rows.csv")
    assert [row.line for row in result.rows] == [5, 8]
    assert (result.reader.examples, result.faults) == (2, [])


def test_the_column_labels_holds_several_or_none():
    result = read("text,labels\nx,a|b\ny,\nz, c \n", "rows.csv")
    assert [row.labels for row in result.rows] == [("a", "b"), (), ("c",)]
    assert read("text,labels\nx,a||b\n", "rows.csv").checks == [(2, "invalid_label")]


def test_a_bar_in_the_column_label_is_part_of_the_label():
    assert read("text,label\nx,a|b\n", "rows.csv").rows[0].labels == ("a|b",)


def test_columns_that_are_not_needed_are_ignored():
    result = read(",id,text,category\n0,7,x,a\n", "rows.csv")
    assert (texts(result), result.reader.ignored_columns) == ([(2, "x", ("a",))], ("", "id"))


def test_pairs_of_texts_come_with_the_real_header_of_a_dialogue_corpus():
    result = read('ID,section_header,section_text,dialogue\r\n0,CC,Note.,"Doctor: a\r\nPatient: b"\r\n', "train.csv")
    (row,) = result.rows
    assert (row.kind, row.source, row.target) == ("summarization", "Doctor: a\nPatient: b", "Note.")
    assert result.reader.ignored_columns == ("id", "section_header")


@pytest.mark.parametrize(
    ("data", "check", "words"),
    [
        ("a,b\nx,y\n", "missing_columns", "Found: a, b. Understood in a table: a text (text, sentence,"),
        ("x,y\n" * 20, "missing_columns", "The first line must name the columns"),
        ("prompt,completion\nx,y\n", "missing_columns", "Found: completion, prompt"),
        ("tokens,tags\nx,O\n", "missing_columns", "Found: tags, tokens"),
        ("text,label,Label\nx,y,z\n", "duplicate_column", "The header names label twice"),
        (
            "text,intent,category\nx,y,z\n",
            "ambiguous_columns",
            "The header has several columns that could be the label",
        ),
        ("text,label,summary\nx,y,z\n", "ambiguous_format", 'name the one that is meant in the field "task"'),
        ('"text,label\nx,y\n', "invalid_csv", "The header opens a cell with a quote"),
        (b"t\xffxt,label\nx,y\n", "invalid_encoding", "The header is not valid UTF-8"),
        ("text,label\rx,y\r", "invalid_csv", "carriage return outside quotes"),
        ("text,label\n".encode("utf-16"), "invalid_encoding", "UTF-16"),
    ],
)
def test_a_header_that_says_too_little_is_one_fault_for_the_whole_file(data, check, words):
    result = read(data, "rows.csv")
    assert result.checks == [(1, check)]
    assert words in result.faults[0].message
    assert result.faults[0].message.endswith("(line 1)")
    assert (result.rows, result.reader.is_broken_off) == ([], True)


@pytest.mark.parametrize(
    ("row", "check", "words"),
    [
        ("x", "wrong_cell_count", "has 1 cells where the header names 2 columns"),
        ("a, b,x", "wrong_cell_count", "has 3 cells"),
        (",x", "missing_content", '"text" is empty'),
        ("x,", "invalid_label", "empty label"),
        ('"a"b,x', "invalid_csv", 'Write a quote inside a cell as two quotes ""'),
        ("a\x00,x", "invalid_character", "NUL"),
        ("a\rb,x", "invalid_csv", "carriage return outside quotes"),
        ("y" * MAX_LINE_BYTES + ",x", "line_too_long", "is longer than 1,000,000 bytes"),
    ],
)
def test_a_faulty_row_is_named_and_hides_no_other(row, check, words):
    result = read(f"{HEADER}a,x\n{row}\nb,y\n", "rows.csv")
    assert result.checks == [(3, check)]
    assert words in result.faults[0].message
    assert result.faults[0].message.startswith("Example 2")
    assert [row.line for row in result.rows] == [2, 4]


def test_a_byte_that_is_no_text_is_named_with_its_own_line():
    result = read(b'text,label\n"a\nb\xff\nc",x\nd,y\n', "rows.csv")
    assert result.checks == [(3, "invalid_encoding")]
    assert [row.line for row in result.rows] == [5]


def test_a_quote_left_open_hides_no_other_row():
    result = read(HEADER + '"a,x\nb,x\nc,y\n"d,y\ne,x\n', "rows.csv")
    assert result.checks == [(2, "invalid_csv"), (5, "invalid_csv")]
    assert [row.text for row in result.rows] == ["b", "c", "e"]


@pytest.fixture
def few_lines(monkeypatch):
    """The limit of lines a record may have, made small."""
    monkeypatch.setattr(records, "MAX_RECORD_LINES", 2000)
    return 2000


def test_a_quote_left_open_in_a_large_file_is_found_in_bounded_memory(few_lines):
    result = read(HEADER + '"a,x\n' + "b,x\n" * (few_lines + 5), "rows.csv")
    assert result.checks == [(2, "line_too_long")]
    assert 'is a quote " left open?' in result.faults[0].message
    assert len(result.rows) == few_lines + 5


def test_a_file_made_to_break_everywhere_is_read_in_bounded_time(few_lines):
    """Each line leaves a quote open in whatever way it is read, so each record goes on to the limit."""
    count = 0

    def lines():
        nonlocal count
        for line in physical_lines([b'a","\n' * (few_lines + 200)]):
            count += 1
            yield line

    found = list(parse_records(lines(), ","))
    assert count == few_lines + 200
    assert len(found) <= 110


@given(
    st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00\r"), min_size=1), st.just("l")
        ),
        min_size=1,
        max_size=5,
    ),
    st.sampled_from([",", "\t", ";"]),
    st.sampled_from(["\n", "\r\n"]),
    st.integers(1, 40),
)
def test_what_the_standard_library_writes_is_read_back(rows, delimiter, ending, chunk_bytes):
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=delimiter, lineterminator=ending)
    writer.writerows([("text", "label"), *rows])
    result = read(file.getvalue(), "rows.csv", chunk_bytes=chunk_bytes)
    assert [row.text for row in result.rows] == [text for text, _ in rows if text.strip()]
    assert {fault.check for fault in result.faults} <= {"missing_content"}
