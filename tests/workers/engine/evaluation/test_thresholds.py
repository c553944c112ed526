"""Costs of mistakes: chosen thresholds near known optima, decisions of least expected cost, money with an interval."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.engine.evaluation.statistics.intervals import interval
from workers.engine.evaluation.statistics.paired import compare
from workers.engine.evaluation.thresholds import CostMatrix, cheapest, choose_threshold, cost_per_1000

REFUNDS = CostMatrix(("refund", "other"), np.array([[0.0, 20.0], [2.0, 0.0]]))


def calibrated(draw, n):
    """Scores that are the probabilities themselves: the optimum is false / (missed + false)."""
    scores = draw.beta(1, 2, size=n)
    return scores, draw.random(n) < scores


def overconfident(draw, n):
    """Scores whose log odds are twice the true ones."""
    scores, truth = calibrated(draw, n)
    odds = (scores / (1 - scores)) ** 2
    return odds / (1 + odds), truth


def two_bells(draw, n):
    """Normal scores of mean 0.65 and 0.35 and deviation 0.1: log odds 30 (score - 0.5)."""
    truth = draw.random(n) < 0.5
    return draw.normal(np.where(truth, 0.65, 0.35), 0.1), truth


@pytest.mark.parametrize(
    ("sample", "missed", "false", "optimum"),
    [
        (calibrated, 20.0, 2.0, 2 / 22),
        (overconfident, 2.0, 1.0, (1 / 2) ** 2 / (1 + (1 / 2) ** 2)),
        (two_bells, 20.0, 2.0, 0.5 + np.log(1 / 10) / 30),
    ],
)
@pytest.mark.parametrize("seed", range(5))
def test_the_chosen_threshold_is_within_two_hundredths_of_the_known_optimum(sample, missed, false, optimum, seed):
    chosen = choose_threshold(*sample(np.random.default_rng(seed), 20_000), missed=missed, false=false)
    assert chosen.threshold == pytest.approx(optimum, abs=0.02)
    assert chosen.cost <= chosen.cost_at_half


@settings(max_examples=100)
@given(
    st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=2, max_size=60).filter(
        lambda rows: len({positive for _, positive in rows}) == 2
    ),
    st.floats(0.1, 50),
    st.floats(0.1, 50),
)
def test_the_chosen_threshold_never_costs_more_than_one_half_on_its_rows(rows, missed, false):
    scores, truth = np.array([score for score, _ in rows]), [positive for _, positive in rows]
    chosen = choose_threshold(scores, truth, missed=missed, false=false)
    assert chosen.cost <= chosen.cost_at_half + 1e-12
    answered = scores >= chosen.threshold
    paid = np.where(truth, missed * ~answered, false * answered).mean()
    assert chosen.cost == pytest.approx(paid)
    assert min(cost for _, cost in chosen.curve) >= chosen.cost - 3 * (missed + false) / np.sqrt(len(rows))


def test_scores_that_run_the_wrong_way_are_not_trusted():
    scores = np.linspace(0, 1, 200)
    chosen = choose_threshold(scores, (scores < 0.5).tolist(), missed=1.0, false=3.0)
    assert chosen.cost <= 0.5  # never yes: half the rows are missed at 1
    assert chosen.threshold > 0.9


def test_rows_of_one_kind_and_free_mistakes_are_refused():
    with pytest.raises(ValueError, match="rows of both kinds; 2 of 2"):
        choose_threshold(np.array([0.2, 0.3]), [True, True], missed=1, false=1)
    with pytest.raises(ValueError, match="cost above 0"):
        choose_threshold(np.array([0.2, 0.3]), [True, False], missed=0, false=1)


def test_the_cheapest_answer_is_not_the_likeliest_where_missing_it_is_dear():
    probabilities = np.array([[0.2, 0.8], [0.05, 0.95]])
    assert cheapest(probabilities, REFUNDS).tolist() == [0, 1]


def test_an_unsure_case_is_handed_on_where_that_is_cheaper():
    matrix = CostMatrix(("a", "b"), np.array([[0.0, 10.0, 2.0], [10.0, 0.0, 2.0]]))
    assert cheapest(np.array([[0.5, 0.5], [0.9, 0.1]]), matrix).tolist() == [2, 0]


def test_expected_costs_are_least_of_all_answers():
    draw = np.random.default_rng(0)
    matrix = CostMatrix(("a", "b", "c"), draw.random((3, 3)) * 10)
    probabilities = draw.dirichlet(np.ones(3), size=2000)
    truth = np.array([draw.choice(3, p=row) for row in probabilities])
    costs = {
        name: cost_per_1000(truth, answered, matrix).value
        for name, answered in {
            "cheapest": cheapest(probabilities, matrix),
            "likeliest": probabilities.argmax(1),
        }.items()
    }
    assert costs["cheapest"] < costs["likeliest"]


def test_money_per_thousand_decisions_has_an_interval_and_is_compared_on_the_same_rows():
    draw = np.random.default_rng(1)
    truth = (draw.random(800) < 0.9).astype(int)
    careless = cost_per_1000(truth, np.ones(800, dtype=int), REFUNDS)
    careful = cost_per_1000(truth, np.where(draw.random(800) < 0.95, truth, 1 - truth), REFUNDS)
    assert careless.value == pytest.approx(20_000 * (truth == 0).mean())
    found = interval(careless)
    assert found.low < careless.value < found.high
    (compared,) = compare([(careless, careful)])
    assert compared.verdict == "better"
    assert compared.difference < 0


def test_costs_of_other_amounts_cannot_be_compared():
    truth = np.array([0, 1])
    other = CostMatrix(REFUNDS.labels, REFUNDS.costs * 2)
    with pytest.raises(ValueError, match="cannot be compared"):
        compare([(cost_per_1000(truth, truth, REFUNDS), cost_per_1000(truth, truth, other))])


def test_a_cost_matrix_of_another_size_is_refused():
    with pytest.raises(ValueError, match="costs of 2 labels need 2 rows of 2 or 3"):
        CostMatrix(("a", "b"), np.zeros((2, 4)))
