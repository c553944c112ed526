"""A client's filename is a label: shown, never used as a path."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.files.names import content_disposition, safe_label


@pytest.mark.parametrize(
    ("filename", "label"),
    [
        ("train.jsonl", "train.jsonl"),
        ("../../etc/passwd", "passwd"),
        ("C:\\data\\train.jsonl", "train.jsonl"),
        ("a\x00b\r\nc\u202ed.txt", "abcd.txt"),
        ("/", "file"),
        ("..", ".."),
        ("", "file"),
        ("Übung 1.jsonl", "Übung 1.jsonl"),
        ("x" * 300, "x" * 255),
    ],
)
def test_a_label_is_the_last_part_without_what_cannot_be_seen(filename, label):
    assert safe_label(filename) == label


@given(st.text(max_size=300))
def test_any_label_makes_a_header_of_one_line(filename):
    header = content_disposition(safe_label(filename))
    assert header.isascii()
    assert header.isprintable()
    assert header.count('"') == 2
