import pytest

from workers.engine.evaluation.metrics import accuracy, class_scores, macro_f1, match_label, percentile


def test_macro_f1_equals_the_textbook_example():
    # scikit-learn's own documentation: f1_score([0, 1, 2, 0, 1, 2], [0, 2, 1, 0, 0, 1], average="macro") = 0.26...
    assert macro_f1(list("012012"), list("021001")) == pytest.approx(0.8 / 3)
    assert accuracy(list("012012"), list("021001")) == pytest.approx(2 / 6)


def test_macro_f1_counts_labels_that_occur_only_in_predictions():
    # tp a=1 fn a=1: F1 2/3; b: tp 1 fp 0 fn 0 = 1; c: fp 1 = 0
    assert macro_f1(["a", "a", "b"], ["a", "c", "b"]) == pytest.approx((2 / 3 + 1 + 0) / 3)


def test_an_answer_that_is_no_label_is_a_miss_but_no_class():
    assert macro_f1(["a", "a", "b"], ["a", None, "b"]) == pytest.approx((2 / 3 + 1) / 2)
    scores = class_scores(["a", "a", "b"], ["a", "pear", "B."], ["a", "b"])
    assert (scores.correct, scores.n, scores.unmatched) == (2, 3, 1)
    assert scores.accuracy == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("billing", "billing"),
        ("  Billing\n", "billing"),
        ("BILLING.", "billing"),
        ("billing!?", "billing"),
        ("billing please", None),
        ("", None),
        ("...", None),
        ("C++", "c++"),
        ("ja", "ja."),
        ("STRASSE", "straße"),
    ],
)
def test_answers_match_labels_without_case_space_and_trailing_punctuation(answer, label):
    labels = ["Billing", "C++", "Ja.", "straße"]
    assert match_label(answer, labels) == (None if label is None else label.casefold())


def test_an_exact_label_wins_over_one_that_differs_in_punctuation():
    assert match_label("yes?", ["yes!", "yes?"]) == "yes?"


def test_percentiles_interpolate_as_numpy_does():
    values = [4.0, 1.0, 3.0, 2.0]
    assert percentile(values, 50) == 2.5
    assert percentile(values, 95) == pytest.approx(3.85)
    assert percentile([7.0], 95) == 7.0


def test_nothing_to_score_is_an_error_and_not_a_number():
    for empty in (lambda: accuracy([], []), lambda: macro_f1([], []), lambda: percentile([], 50)):
        with pytest.raises(ValueError, match="of no"):
            empty()
