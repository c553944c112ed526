from collections import Counter

from app.contracts.previews import Preview, PreviewTotals
from app.previews.sampling import FileSample
from app.previews.sentences import warnings


def said(*, good=50, faulty=0, is_whole=True, rows=10, dropped=0, cut=0):
    sample = FileSample(
        examples=good + faulty, faulty=faulty, is_whole=is_whole, fault_counts=Counter({"invalid_json": faulty})
    )
    totals = PreviewTotals(rows=rows, dropped_rows=dropped, truncated_rows=cut, tokens=100, trained_tokens=10)
    return list(warnings(sample, Preview(max_length=64, rows=(), totals=totals)))


def test_of_a_sound_file_nothing_is_said():
    assert said() == []


def test_a_file_no_row_of_which_is_learned_is_said_loudly():
    assert said(dropped=10) == ["Nothing is learned: every row shown would be dropped."]


def test_dropped_and_cut_rows_are_counted():
    assert said(dropped=1, cut=2) == [
        "1 row of the 10 shown would be dropped: nothing is learned from it.",
        "2 rows of the 10 shown are longer than 64 tokens: what does not fit is left out of what the model reads.",
    ]


def test_what_keeps_a_job_from_starting_comes_first():
    assert said(good=8, faulty=1, cut=1) == [
        "1 row of the file is faulty: a job on it is refused until it is mended.",
        "The file has 8 rows to train on; a job needs at least 10.",
        "1 row of the 10 shown is longer than 64 tokens: what does not fit is left out of what the model reads.",
    ]


def test_counts_of_a_beginning_are_not_taken_for_those_of_the_file():
    (sentence,) = said(good=3, is_whole=False)
    assert sentence.startswith("Only the first 64 MiB of the file were read")
