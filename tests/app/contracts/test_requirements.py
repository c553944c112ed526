"""Requirement sheets: what is read, what is refused, and what the interval says to each line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from app.contracts.figures import Figure
from app.contracts.requirements import Expectation, Requirement, is_met, judge_sheet, parse_sheet


def figure(name, value, low, high, n=200):
    return Figure(name=name, value=value, low=low, high=high, n=n, interval="Wilson", signature="s")


def judge(line, *figures):
    (found,) = judge_sheet(parse_sheet(line), figures)
    return found


def test_a_sheet_is_read_line_by_line():
    sheet = parse_sheet("""
        macro_f1 >= 0.85      # what we had before
        p95_ms <= 300
        injection_rise<=5 points
        accuracy \u2265 90%
        p99_ms \u2264 1.5 s
        cost_per_1000 <= 4e2
    """)
    assert [requirement.text for requirement in sheet] == [
        "macro_f1 >= 0.85",
        "p95_ms <= 300",
        "injection_rise <= 0.05",
        "accuracy >= 0.9",
        "p99_ms <= 1500",
        "cost_per_1000 <= 400",
    ]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "holds no requirement"),
        ("# nothing yet", "holds no requirement"),
        ("macro_f1 > 0.85", "line 1, 'macro_f1 > 0.85': write FIGURE >= LIMIT"),
        ("macro_f1 0.85", "write FIGURE >= LIMIT"),
        ("macro_f1 >= 0,85", "'0,85' is no number; write it like 0.85"),
        ("\nmacro_f1 >= high", "line 2, 'macro_f1 >= high'"),
        ("Macro-F1 >= 0.85", "'Macro-F1' is no name of a figure"),
        ("macro_f1 >= 0.85 ms", "'ms' is a unit of times, and macro_f1 is none"),
        ("p95_ms <= 300 points", "p95_ms is a time"),
        ("macro_f1 >= 85 percent", "'percent' is no unit known here"),
        ("f1 >= 0.8\nf1 >= 0.9", "line 2, .*stands here twice"),
        ("f1 >= 0.8\nf1 <= 0.7", "no value meets this and 'f1 >= 0.8'"),
        ("f1 >= 1e999", "finite"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_line_and_how_to_mend_it(text, complaint):
    with pytest.raises(ValueError, match=complaint):
        parse_sheet(text)


@given(
    st.from_regex(r"[a-z][a-z0-9_]{0,20}", fullmatch=True),
    st.sampled_from([">=", "<="]),
    st.integers(-(10**6), 10**6).map(lambda number: number / 1000),
)
def test_a_requirement_as_text_reads_as_itself(name, operator, limit):
    requirement = Requirement(figure=name, operator=operator, limit=float(f"{limit:g}"))
    assert parse_sheet(requirement.text) == (requirement,)


def test_an_estimate_above_the_limit_whose_interval_is_not_is_not_a_pass():
    found = judge("macro_f1 >= 0.85", figure("macro_f1", 0.86, 0.82, 0.90))
    assert found.outcome == "not_shown"
    assert found.rows_wanted == 3200
    assert "About 3200 held-out rows (3000 more) would show it" in found.sentence


def test_that_many_rows_would_indeed_show_it():
    low = 0.88 - 0.04 * (200 / judge("f1 >= 0.85", figure("f1", 0.88, 0.84, 0.92)).rows_wanted) ** 0.5
    assert judge("f1 >= 0.85", figure("f1", 0.88, low, 0.91)).outcome == "pass"


@pytest.mark.parametrize(
    ("line", "value", "low", "high", "outcome"),
    [
        ("f1 >= 0.8", 0.85, 0.80, 0.90, "pass"),
        ("f1 >= 0.8", 0.70, 0.60, 0.79, "fail"),
        ("f1 >= 0.8", 0.75, 0.70, 0.80, "not_shown"),
        ("p95_ms <= 300", 250, 200, 300, "pass"),
        ("p95_ms <= 300", 310, 301, 330, "fail"),
        ("p95_ms <= 300", 290, 250, 330, "not_shown"),
        ("injection_rise <= 5 points", 0.01, -0.02, 0.04, "pass"),
    ],
)
def test_the_interval_decides(line, value, low, high, outcome):
    assert judge(line, figure(line.split()[0], value, low, high)).outcome == outcome


@given(
    st.sampled_from([">=", "<="]),
    st.floats(-10, 10),
    st.lists(st.floats(-10, 10), min_size=3, max_size=3).map(sorted),
)
def test_a_requirement_passes_only_if_every_value_of_the_interval_meets_it(operator, limit, ends):
    low, value, high = ends
    requirement = Requirement(figure="f1", operator=operator, limit=limit)
    (found,) = judge_sheet([requirement], [figure("f1", value, low, high)])
    meets = [end >= limit if operator == ">=" else end <= limit for end in ends]
    assert found.outcome == ("pass" if all(meets) else "not_shown" if meets[0] or meets[2] else "fail")
    assert found.sentence.endswith(".")


def test_a_figure_that_was_not_measured_is_no_pass_and_says_what_to_do():
    found = judge("p95_ms <= 300", figure("f1", 0.9, 0.8, 1.0))
    assert found.outcome == "not_measured"
    assert found.sentence.startswith("p95_ms was not measured in this run. Check the name")


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("macro_f1", "mend wrong labels"),
        ("p95_ms", "answer tokens"),
        ("cost_per_1000", "handing unsure cases on"),
        ("ece", "temperature"),
        ("injection_rise", "lower learning rate"),
    ],
)
def test_a_miss_names_the_cheapest_change_for_its_kind_of_figure(name, advice):
    low_is_good = name != "macro_f1"
    line = f"{name} {'<=' if low_is_good else '>='} 0.5"
    found = judge(line, figure(name, 0.9, 0.8, 1.0) if low_is_good else figure(name, 0.1, 0.0, 0.2))
    assert found.outcome == "fail"
    assert advice in found.sentence


def test_an_estimate_below_the_limit_is_not_sent_for_more_held_out_rows():
    found = judge("f1 >= 0.8", figure("f1", 0.78, 0.74, 0.82))
    assert (found.outcome, found.rows_wanted) == ("not_shown", None)
    assert "0.02 short" in found.sentence


@pytest.mark.parametrize(("line", "value", "low"), [("f1 >= 0.8", 0.8001, 0.76), ("f1 >= -1e-281", 0.0, -1.0)])
def test_an_estimate_on_the_limit_is_not_sent_for_a_million_rows(line, value, low):
    found = judge(line, figure("f1", value, low, value + 0.04))
    assert found.rows_wanted is None
    assert "too near the limit" in found.sentence


def test_the_gate_opens_only_where_all_requirements_pass():
    sheet = parse_sheet("f1 >= 0.8\np95_ms <= 300")
    good, slow = figure("f1", 0.9, 0.85, 0.95), figure("p95_ms", 290, 250, 330)
    assert not is_met(judge_sheet(sheet, [good, slow]))
    assert not is_met(judge_sheet(sheet, [good]))
    assert is_met(judge_sheet(sheet, [good, figure("p95_ms", 100, 90, 110)]))
    assert not is_met(())


def test_two_figures_of_one_name_are_refused():
    with pytest.raises(ValueError, match="same name"):
        judge_sheet(parse_sheet("f1 >= 0.8"), [figure("f1", 0.9, 0.8, 1.0)] * 2)


@pytest.mark.parametrize(
    ("kind", "value", "complaint"),
    [
        ("json_schema", "{}", r"needs a JSON schema \(an object\)"),
        ("min_length", "3", "whole number of characters"),
        ("min_length", True, "valid integer"),
        ("max_length", -1, "cannot be negative"),
        ("contains", 3, "needs a text"),
        ("contains", "", "not empty"),
    ],
)
def test_an_expectation_needs_a_value_of_its_kind(kind, value, complaint):
    with pytest.raises(ValidationError, match=complaint):
        Expectation(input="hi", kind=kind, value=value)
