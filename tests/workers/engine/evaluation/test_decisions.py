"""Decisions of least expected cost, from logits whose probabilities are known."""

import numpy as np
import pytest

from app.contracts.costs import Costs
from workers.engine.evaluation.calibration import softmax
from workers.engine.evaluation.decisions import price

LABELS = ("delivery", "other", "refund")
COSTS = {"default": 1, "pairs": [{"expected": "refund", "predicted": "other", "cost": 20}]}


def draw(temperature=1.0, n=4000):
    """Logits that are calibrated at the temperature, and truth."""
    generator = np.random.default_rng(5)
    logits = generator.normal(scale=1.5, size=(n, 3))
    truth = (generator.random((n, 1)) > softmax(logits).cumsum(1)).sum(1).clip(max=2)
    return logits * temperature, truth


def test_the_cheapest_answers_cost_less_than_the_likeliest_and_differ_as_often_as_is_said():
    logits, truth = draw()
    found = price(logits, truth, 1.0, LABELS, Costs.model_validate(COSTS))
    matrix = np.array(Costs.model_validate(COSTS).rows(LABELS))
    cheapest = (softmax(logits) @ matrix).argmin(1)
    assert found.metric.value == pytest.approx(1000 * matrix[truth, cheapest].mean())
    assert found.metric.value < 0.8 * found.decisions.likeliest_per_1000
    assert found.decisions.likeliest_per_1000 == pytest.approx(1000 * matrix[truth, logits.argmax(1)].mean())
    assert found.decisions.changed == (cheapest != logits.argmax(1)).mean() > 0.1
    assert found.decisions.abstained is None
    assert (found.metric.name, found.metric.higher_is_better) == ("cost_per_1000_decisions", False)


@pytest.mark.parametrize("temperature", [0.3, 3.0])
def test_calibrated_probabilities_decide_more_cheaply_than_those_as_trained(temperature):
    logits, truth = draw(temperature)
    costs = Costs.model_validate(COSTS)
    calibrated, plain = (price(logits, truth, t, LABELS, costs).metric.value for t in (temperature, 1.0))
    assert calibrated < plain


def test_a_case_is_handed_on_where_every_answer_is_expected_to_cost_more():
    logits, truth = draw()
    found = price(logits, truth, 1.0, LABELS, Costs.model_validate(COSTS | {"abstain": 0.3}))
    expected = (softmax(logits) @ np.array(Costs.model_validate(COSTS).rows(LABELS))).min(1)
    assert found.decisions.abstained == (expected > 0.3).mean() > 0.2
    without = price(logits, truth, 1.0, LABELS, Costs.model_validate(COSTS))
    assert found.metric.value < without.metric.value


def test_where_all_mistakes_cost_the_same_the_likeliest_answer_is_the_cheapest():
    logits, truth = draw()
    found = price(logits, truth, 1.0, LABELS, Costs())
    assert found.decisions.changed == 0
    assert found.metric.value == pytest.approx(1000 * (logits.argmax(1) != truth).mean())
