import numpy as np

from app.contracts.rows import Span
from workers.engine.recipes.tags import most_likely, to_spans, to_tags

LABELS = ("city", "person")
TEXT = "Anna Berg flies to New York"
WORDS = [(0, 4), (5, 9), (10, 15), (16, 18), (19, 22), (23, 27)]
SPANS = [Span(start=0, end=9, label="person"), Span(start=19, end=27, label="city")]


def test_spans_become_tags_and_come_back():
    tags = to_tags(WORDS, SPANS, LABELS)
    assert tags.tolist() == [3, 4, 0, 0, 1, 2]
    assert [span for span, _ in to_spans(tags, WORDS, LABELS)] == SPANS


def test_two_entities_of_one_label_side_by_side_stay_two():
    spans = [Span(start=0, end=4, label="person"), Span(start=5, end=9, label="person")]
    tags = to_tags(WORDS, spans, LABELS)
    assert tags.tolist()[:2] == [3, 3]
    assert [span for span, _ in to_spans(tags, WORDS, LABELS)] == spans


def test_a_word_that_a_span_only_touches_belongs_to_it():
    tags = to_tags(WORDS, [Span(start=20, end=22, label="city")], LABELS)
    assert [span for span, _ in to_spans(tags, WORDS, LABELS)] == [Span(start=19, end=22, label="city")]


def test_the_likeliest_tags_never_continue_what_was_not_begun():
    likely = np.log(np.full((3, 5), 0.01, dtype=np.float32))
    likely[0, 2] = np.log(0.9)  # I-city at the start: impossible
    likely[1, 4] = np.log(0.9)  # I-person after it: only after B-person
    likely[2, 0] = np.log(0.9)
    assert most_likely(likely).tolist() == [3, 4, 0]


def test_equal_tags_win_where_nothing_forbids_them():
    rng = np.random.default_rng(0)
    likely = rng.random((20, 5)).astype(np.float32)
    tags = most_likely(likely)
    for before, tag in zip([0, *tags[:-1]], tags, strict=True):
        assert tag % 2 == 1 or tag == 0 or before in (tag, tag - 1)
