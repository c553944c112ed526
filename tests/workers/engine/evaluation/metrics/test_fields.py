"""Figures of JSON answers, field by field."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.engine.evaluation.metrics.fields import field_figures, field_metrics, read_json

RECORDS = st.dictionaries(
    st.text("abc", min_size=1, max_size=2),
    st.recursive(
        st.none() | st.booleans() | st.integers(-5, 5) | st.text("xy", max_size=3),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", min_size=1, max_size=1), inner),
        max_leaves=6,
    ),
    min_size=1,
    max_size=4,
)


def values(expected, answers):
    return {m.name: m.value for m in field_metrics([json.dumps(e) for e in expected], answers)}


def test_each_field_of_each_row_counts_once():
    expected = {"name": "Ada", "age": 36, "tags": ["a", "b"]}
    found = values([expected], ['{"name": "Ada", "age": 37, "tags": ["b", "c"], "city": "Rome"}'])
    assert found["field_precision"] == pytest.approx(2 / 5)
    assert found["field_recall"] == pytest.approx(2 / 4)
    assert found["field_f1"] == pytest.approx(4 / 9)
    assert found["record_accuracy"] == 0


def test_figures_of_one_field_are_counted_over_all_rows():
    expected = ['{"name": "Ada", "age": 36}', '{"name": "Bo"}']
    figures = {f.label: f for f in field_figures(expected, ['{"name": "Ada", "age": 1, "x": 0}', "no JSON"])}
    assert (figures["name"].precision, figures["name"].recall, figures["name"].support) == (1.0, 0.5, 2)
    assert (figures["age"].precision, figures["age"].f1) == (0.0, 0.0)
    assert "x" not in figures


def test_nested_values_have_paths():
    figures = field_figures(['{"items": [{"price": 1}, {"price": 2}], "who": {"name": "x"}}'], ["{}"])
    assert [(f.label, f.support) for f in figures] == [("items[].price", 2), ("who.name", 1)]


@given(st.lists(RECORDS, min_size=1, max_size=5))
def test_the_expected_records_themselves_are_all_right_in_any_layout(records):
    found = values(records, [json.dumps(r, indent=2, sort_keys=True) for r in records])
    assert set(found.values()) == {1.0}


@given(st.lists(st.tuples(RECORDS, RECORDS), min_size=1, max_size=5))
def test_precision_of_one_side_is_recall_of_the_other(pairs):
    left, right = [[json.dumps(record) for record in side] for side in zip(*pairs, strict=True)]
    there = {m.name: m.value for m in field_metrics(left, right)}
    back = {m.name: m.value for m in field_metrics(right, left)}
    assert there["field_precision"] == pytest.approx(back["field_recall"])
    assert there["field_f1"] == pytest.approx(back["field_f1"])


def test_true_is_not_one_and_one_is_one_point_zero():
    assert values([{"a": True}], ['{"a": 1}'])["field_f1"] == 0
    assert values([{"a": 1}], ['{"a": 1.0}'])["field_f1"] == 1


@pytest.mark.parametrize("text", ["", "no", "{'a': 1}", "NaN", '{"a": Infinity}', '{"a": 1} and more', "[" * 100_000])
def test_what_is_no_json_is_a_miss_and_no_crash(text):
    assert read_json(text) == (False, None)
    assert values([{"a": 1}], [text])["field_recall"] == 0


def test_an_expected_text_that_is_no_json_is_named_by_its_row():
    with pytest.raises(ValueError, match="row 2 is not JSON"):
        field_metrics(["{}", "oops"], ["{}", "{}"])
