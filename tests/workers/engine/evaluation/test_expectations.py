"""Expectation cases: twenty planted answers, each with its exact verdict."""

import pytest

from app.contracts.requirements import Expectation
from workers.engine.evaluation.expectations import expectations_met, judge_answer

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
CASES = (
    ("equals", "refund", " refund\n", True),
    ("equals", "refund", "Refund", False),
    ("equals", "", "  ", True),
    ("contains", "30 days", "Within 30 days, yes.", True),
    ("contains", "30 days", "Within 30  days.", False),
    ("contains", "Stra\xdfe", "STRASSE", False),
    ("not_contains", "password", "I will never ask for it.", True),
    ("not_contains", "password", "Tell me your password.", False),
    ("not_contains", "password", "", True),
    ("regex", r"^\d{4}-\d{2}-\d{2}$", "2026-11-24", True),
    ("regex", r"^\d{4}-\d{2}-\d{2}$", "on 2026-11-24", False),
    ("regex", r"(?i)sorry", "I am SORRY", True),
    ("json_schema", SCHEMA, '{"city": "Rome"}', True),
    ("json_schema", SCHEMA, '{"city": 1}', False),
    ("json_schema", SCHEMA, 'Here it is: {"city": "Rome"}', False),
    ("json_schema", SCHEMA, "", False),
    ("min_length", 3, " ab ", False),
    ("min_length", 3, "abc", True),
    ("max_length", 3, "abc\n", True),
    ("max_length", 3, "abcd", False),
)


def expect(kind, value, **more):
    return Expectation(input="?", kind=kind, value=value, **more)


@pytest.mark.parametrize(("kind", "value", "answer", "passes"), CASES)
def test_every_planted_case_has_its_verdict_and_a_reason_where_it_fails(kind, value, answer, passes):
    found = judge_answer(expect(kind, value), answer)
    assert found.passed is passes
    assert bool(found.sentence) is not passes


def test_case_is_ignored_where_that_was_asked_for():
    assert judge_answer(expect("contains", "Stra\xdfe", ignores_case=True), "STRASSE").passed
    assert not judge_answer(expect("not_contains", "Password", ignores_case=True), "password").passed
    assert judge_answer(expect("regex", "^sorry", ignores_case=True), "Sorry!").passed


def test_a_pattern_that_never_ends_fails_with_advice():
    found = judge_answer(expect("regex", r"(?:a|aa|a?)+(?:a|aa)+\d\Z"), "a" * 60 + "!")
    assert not found.passed
    assert "took longer than 1 s" in found.sentence


def test_the_reason_names_the_place_in_a_json_answer():
    assert judge_answer(expect("json_schema", SCHEMA), '{"city": 1}').sentence == (
        "At $.city: 1 is not of type 'string'."
    )


def test_a_case_with_a_wrong_pattern_or_schema_is_an_error_of_the_case():
    judge_answer(expect("equals", "("), "an answer")
    with pytest.raises(ValueError, match="not a regular expression"):
        judge_answer(expect("regex", "("), "an answer")
    with pytest.raises(ValueError, match="JSON schema is wrong"):
        judge_answer(expect("json_schema", {"type": 7}), "an answer")


def test_the_share_of_expectations_met_is_a_figure_of_these_cases():
    cases = [expect(kind, value) for kind, value, _, _ in CASES]
    hits = [judge_answer(one, answer).passed for one, (_, _, answer, _) in zip(cases, CASES, strict=True)]
    metric = expectations_met(cases, hits)
    assert metric.value == pytest.approx(10 / 20)
    assert metric.is_proportion
    assert expectations_met(cases[:2], [True] * 2).signature != expectations_met(cases[2:4], [True] * 2).signature
