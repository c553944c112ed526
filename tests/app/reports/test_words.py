"""The paragraph says what was found, how sure that is, and what to do."""

import pytest

from app.contracts.reports import LeakedRows
from app.contracts.requirements import judge_sheet, parse_sheet
from app.reports.words import summary
from tests.support.evaluations import comparison, evaluation, figure, outcome, scores, weak_class


def test_a_better_model_is_said_to_be_better_with_its_difference_and_interval():
    said = summary(evaluation())
    assert said.startswith("On 400 held-out rows the tuned model is better than the base: macro-F1 0.800 against 0.700")
    assert "difference +0.100, with 95 % certainty +0.050 to +0.150" in said
    assert said.endswith("Use it if the figures are good enough for the task.")


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        ("worse", "Do not use it"),
        ("no_difference_shown", "Keep the base"),
        ("too_little_data", "Hold out more rows, about 260"),
    ],
)
def test_every_verdict_has_its_advice(verdict, words):
    assert words in summary(evaluation(verdict))


def test_a_cheap_baseline_that_is_as_good_is_named_and_advised():
    said = summary(evaluation(baseline_better=("majority", "logistic regression")))
    assert "A cheap answer is at least as good: majority and logistic regression." in said
    assert "Use the cheap way" in said


def test_the_weakest_labels_are_named_unless_they_have_hardly_any_rows():
    tuned = scores(classes=(weak_class("refund"), weak_class("rare", support=2), weak_class("fine", f1=0.9)))
    said = summary(evaluation(tuned=tuned))
    assert "It is weakest on refund (F1 0.30, 40 rows)." in said
    assert "rare" not in said
    assert "fine" not in said


def test_a_model_that_misses_a_requirement_is_not_advised_however_much_better_it_is():
    judged = judge_sheet(parse_sheet("macro_f1 >= 0.9\naccuracy >= 0.5"), scores().figures)
    said = summary(evaluation(requirements=judged))
    assert "Of 2 requirements 0 are met. macro_f1 is 0.8" in said
    assert said.endswith("Do not use it yet: it was not shown to meet what was required of it.")
    assert ".;" not in said


def test_an_evaluation_without_a_judgement_has_no_paragraph():
    assert summary(evaluation(judgement=None)) == ""


def test_shares_are_said_in_percent_and_their_differences_in_points():
    judged = evaluation().judgement
    first = comparison("accuracy", 0.1)
    found = evaluation(judgement=judged.model_copy(update={"decides": "accuracy", "comparisons": (first,)}))
    assert "difference +10.0 points" in summary(found)


def test_rows_that_training_has_seen_are_named_with_their_own_figure():
    leaked = LeakedRows(rows=25, base=(figure(value=0.7),), tuned=(figure(value=0.99),))
    said = summary(evaluation(leaked=leaked))
    assert "25 rows were not counted, because training had seen them (macro-F1 there: 0.990)." in said


def test_beside_an_earlier_model_no_difference_means_to_keep_that_model():
    found = evaluation("no_difference_shown", base_is="ft:tiny:acme::one1")
    judged = found.judgement.model_copy(
        update={"comparisons": (comparison(verdict="no_difference_shown", against="ft:tiny:acme::one1"),)}
    )
    said = summary(found.model_copy(update={"judgement": judged}))
    assert "does about as well as ft:tiny:acme::one1" in said
    assert "Keep the earlier model: there is no reason to change" in said


def test_expectations_are_counted_beside_the_base_and_a_broken_one_keeps_the_model_from_use():
    said = summary(evaluation(expectations=(outcome(), outcome(passed=False, base_passed=True))))
    assert "Of your 2 expectations it meets 1 (base 1)." in said
    assert said.endswith("Do not use it yet: it was not shown to meet what was required of it.")


def test_where_training_has_seen_every_row_the_figures_are_said_to_be_memory():
    leaked = LeakedRows(rows=400, base=(figure(value=0.7),), tuned=(figure(value=0.99),))
    assert "Training had seen all of these rows" in summary(evaluation(leaked=leaked))
