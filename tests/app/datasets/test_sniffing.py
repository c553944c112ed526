"""What decides in which syntax a file is read."""

import pytest

from app.datasets.formats.lines import physical_lines
from app.datasets.formats.sniffing import sniff


@pytest.mark.parametrize(
    ("first", "filename", "syntax"),
    [
        ('{"messages": []}', "rows.jsonl", "jsonl"),
        ('{"messages": []}', "rows.csv", "jsonl"),
        ('{"messages": []}', "rows.conll", "jsonl"),
        ('{"messages": [{"content": "vitamin B-12"}]}', "rows.txt", "jsonl"),
        ("[1]", None, "jsonl"),
        ("nonsense", None, "jsonl"),
        ("nonsense", "rows.txt", "jsonl"),
        ("nonsense", "rows.csv", "table"),
        ("nonsense", "rows.TSV", "table"),
        ("nonsense", "rows.conll", "conll"),
        ("text,label", "rows.jsonl", "jsonl"),
        ("text,label", None, "table"),
        ("dialogue\tsummary", "rows.txt", "table"),
        ("a\tB-X", "rows.jsonl", "jsonl"),
        ("a\tB-X", "rows.csv", "table"),
        ("a\tB-X", "rows.tsv", "conll"),
        ("a\tB-X", "emerging.test.annotated", "conll"),
        ("a b c O", None, "conll"),
        ("-DOCSTART-", None, "conll"),
        ("# id = 1\na\tO", None, "conll"),
        ("", None, "jsonl"),
    ],
)
def test_the_first_line_decides_and_the_name_helps(first, filename, syntax):
    assert sniff(physical_lines([first.encode()]), filename).syntax == syntax


def test_no_line_that_holds_anything_is_lost_by_looking():
    data = b"\n \n# a\n# b\nc\tO\n\nd\tO\n"
    lines = list(sniff(physical_lines([data]), None).lines)
    assert [line.number for line in lines] == [3, 4, 5, 6, 7]
