import json

import pytest

from app.datasets.tasks import Task
from app.previews import sampling
from app.previews.sampling import Wish


def sample_file(chunks, wish, filename="rows.jsonl"):
    return sampling.sample_file(filename, chunks, wish)


def line(answer="yes"):
    return json.dumps({"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": answer}]})


def file(*lines):
    return [("\n".join(lines) + "\n").encode()]


def lines_of(found):
    return [row.line for row in found.rows]


def test_the_head_is_the_first_good_rows_and_the_counts_are_of_the_whole_file():
    found = sample_file(file(line(), "{oops", line(), line(), "[]"), Wish(limit=2))
    assert lines_of(found) == [1, 3]
    assert (found.examples, found.faulty, found.is_whole) == (5, 2, True)
    assert [fault.line for fault in found.faults] == [2, 5]


def test_a_row_with_two_faults_is_one_faulty_row():
    bad = json.dumps({"messages": [{"role": "nobody", "content": "x"}, {"role": "user"}], "more": 1})
    found = sample_file(file(line(), bad), Wish(limit=5))
    assert found.faulty == 1
    assert found.fault_counts.total() == len(found.faults) > 1


def test_faults_beyond_those_listed_are_counted(monkeypatch):
    monkeypatch.setattr(sampling, "MAX_LISTED_FAULTS", 3)
    found = sample_file(file(line(), *["{"] * 7), Wish(limit=5))
    assert (len(found.faults), found.faulty, found.fault_counts["invalid_json"]) == (3, 7, 7)


def test_the_longest_come_longest_first():
    found = sample_file(file(line(), line("x" * 50), line("x" * 20), line("x" * 90)), Wish(limit=3, sample="longest"))
    assert lines_of(found) == [4, 2, 3]


def test_a_random_sample_is_the_same_for_the_same_seed_and_reaches_the_whole_file():
    content = file(*[line()] * 200)
    drawn = [lines_of(sample_file(content, Wish(limit=10, sample="random", seed=seed))) for seed in range(40)]
    assert drawn[3] == lines_of(sample_file(content, Wish(limit=10, sample="random", seed=3)))
    assert all(lines == sorted(set(lines)) and len(lines) == 10 for lines in drawn)
    assert len({number for lines in drawn for number in lines}) > 150
    assert len({tuple(lines) for lines in drawn}) == 40


@pytest.mark.parametrize("sample", ["head", "longest", "random"])
def test_rows_before_the_start_line_are_counted_and_not_shown(sample):
    found = sample_file(file(*[line()] * 9), Wish(limit=50, sample=sample, start_line=7))
    assert sorted(lines_of(found)) == [7, 8, 9]
    assert found.examples == 9


def test_of_a_file_too_long_whole_lines_of_its_beginning_are_read(monkeypatch):
    monkeypatch.setattr(sampling, "MAX_READ_BYTES", 3 * len(line()))
    content = "".join(f"{line()}\n" for _ in range(10)).encode()
    for size in (7, 64, 1000):
        chunks = [content[start : start + size] for start in range(0, len(content), size)]
        found = sample_file(chunks, Wish(limit=50))
        assert (lines_of(found), found.faulty, found.is_whole) == ([1, 2, 3], 0, False)


def test_a_file_that_ends_where_the_reading_ends_is_whole(monkeypatch):
    monkeypatch.setattr(sampling, "MAX_READ_BYTES", 10)
    for chunks in ([f"{line()}\n".encode()], [line().encode(), b"\n"], [line().encode()]):
        found = sample_file(chunks, Wish(limit=50))
        assert (lines_of(found), found.is_whole) == ([1], True)


def test_of_giant_rows_as_many_are_shown_as_an_answer_can_take(monkeypatch):
    monkeypatch.setattr(sampling, "MAX_SHOWN_BYTES", 1500)
    assert lines_of(sample_file(file(*[line("x" * 300)] * 9), Wish(limit=50))) == [1, 2]
    assert lines_of(sample_file(file(*[line("x" * 3000)] * 9), Wish(limit=50))) == [1]


def test_labels_are_those_of_the_whole_file_and_several_a_text_make_it_multi_label():
    table = [b"text,label\n", b"late,delivery\n", b"broken,repair\n"]
    found = sample_file(table, Wish(limit=1), "rows.csv")
    assert (lines_of(found), found.format, found.labels) == ([2], "text_classification", {"delivery", "repair"})
    assert not found.is_multi_label
    rows = [json.dumps({"text": "late", "labels": ["a", "b"]})]
    assert sample_file(file(*rows), Wish(limit=1)).is_multi_label


def test_a_row_of_many_lines_with_several_faults_is_one_faulty_row():
    found = sample_file(
        [b"Ada B-PER\nsays nothing at all here\nand neither this one\n\nParis B-LOC\n"], Wish(limit=9), "x.conll"
    )
    assert (found.examples, found.faulty, [row.kind for row in found.rows]) == (2, 1, ["token_classification"])
    assert len(found.faults) > 1


def test_a_file_of_another_kind_than_the_wished_task_is_refused_by_name():
    found = sample_file(file(line()), Wish(limit=9, task=Task.SUMMARIZATION))
    assert (found.rows, found.refused) == ([], "chat")


def test_a_header_that_says_nothing_is_a_fault():
    found = sample_file([b"a,b\n1,2\n"], Wish(limit=9), "x.csv")
    assert (found.rows, found.faulty, len(found.faults)) == ([], 1, 1)
    assert found.examples >= found.faulty
