"""What mistakes cost, as it is written and as it is refused."""

import pytest
from pydantic import ValidationError

from app.contracts.costs import Costs

LABELS = ("delivery", "other", "refund")
REFUND = {"expected": "refund", "predicted": "other", "cost": 20}


def test_pairs_have_their_price_other_mistakes_the_default_and_right_answers_none():
    assert Costs.model_validate({"default": 2, "pairs": [REFUND]}).rows(LABELS) == [
        [0.0, 2.0, 2.0],
        [2.0, 0.0, 2.0],
        [2.0, 20.0, 0.0],
    ]


def test_handing_a_case_on_is_one_more_answer():
    assert Costs(abstain=0.5).rows(("a", "b")) == [[0.0, 1.0, 0.5], [1.0, 0.0, 0.5]]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"pairs": [REFUND, {**REFUND, "cost": 3}]}, "'other' for 'refund' stands here twice"),
        ({"pairs": [{**REFUND, "predicted": "refund"}]}, "costs nothing; leave that pair out"),
        ({"default": 0}, "no mistake costs anything"),
        ({"pairs": [{**REFUND, "cost": -1}]}, "greater than or equal to 0"),
        ({"pairs": [{**REFUND, "cost": "20"}]}, "valid number"),
        ({"pairs": [{**REFUND, "price": 20}]}, "Extra inputs"),
        ({"abstain": float("nan")}, "finite"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_reason(fields, words):
    with pytest.raises(ValidationError, match=words):
        Costs.model_validate(fields)


def test_a_label_that_the_task_does_not_have_is_named_beside_those_it_has():
    costs = Costs.model_validate({"pairs": [REFUND, {**REFUND, "predicted": "refnd"}]})
    assert costs.problem((*LABELS, "refnd")) is None
    assert "costs name 'refnd', which no training row has" in (costs.problem(LABELS) or "")
    assert "The labels are: delivery, other, refund." in (costs.problem(LABELS) or "")
    with pytest.raises(ValueError, match="refnd"):
        costs.rows(LABELS)
