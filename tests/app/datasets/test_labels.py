"""When are answers labels?"""

import pytest

from app.contracts.rows import ChatMessage, ChatRow
from app.datasets.labels import find_labels, label_candidate


def row(content, **extra):
    return ChatRow(line=1, messages=(ChatMessage(role="assistant", content=content, **extra),))


@pytest.mark.parametrize("text", ["billing", " billing\n", "a b c d e f", "x" * 64])
def test_a_short_answer_may_be_a_label(text):
    assert label_candidate(row(text)) == text.strip()


@pytest.mark.parametrize("text", ["", "   ", "a b c d e f g", "x" * 65, None])
def test_a_long_or_empty_answer_is_no_label(text):
    assert label_candidate(row(text)) is None


def test_a_tool_call_is_no_label():
    assert label_candidate(row("billing", tool_calls=({},))) is None


def test_few_distinct_answers_are_labels_in_sorted_order():
    assert find_labels(["b", "a", "b", "a", "b", "a"], ["a"]) == ("a", "b")


def test_case_makes_no_new_label_and_the_usual_spelling_wins():
    assert find_labels(["Billing", "billing", "Billing", "card", "card", "card"], []) == ("Billing", "card")


def test_a_label_that_only_the_held_out_rows_have_counts_too():
    assert find_labels(["a", "b"] * 3, ["c"]) == ("a", "b", "c")


@pytest.mark.parametrize(
    "answers",
    [
        ["a"] * 30,
        ["a", "b", "c", "d"],
        [None, *["a", "b"] * 5],
        [f"{n}" for n in range(101)] * 4,
        [],
    ],
)
def test_one_answer_many_answers_or_rare_answers_are_no_classification(answers):
    assert find_labels(answers, []) is None


def test_a_long_answer_among_the_held_out_rows_is_no_classification():
    assert find_labels(["a", "b"] * 5, [None]) is None
