"""Two models on the same rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, false_discovery_control

from workers.engine.evaluation.statistics.metric import mean, proportion, ratio
from workers.engine.evaluation.statistics.paired import compare, holm, mcnemar, randomisation


def discordant(won: int, lost: int, same: int):
    first = [True] * lost + [False] * won + [True] * same
    second = [False] * lost + [True] * won + [True] * same
    return tuple(proportion("accuracy", hits, signature="s") for hits in (first, second))


def test_thirty_against_twelve_discordant_rows_have_the_p_value_of_the_requirement():
    assert round(mcnemar(30, 12), 4) == 0.0079
    assert mcnemar(30, 12) == mcnemar(12, 30)


@given(st.integers(0, 300), st.integers(0, 300))
def test_mcnemars_p_value_is_scipys_binomial_test(won, lost):
    expected = binomtest(won, won + lost).pvalue if won + lost else 1.0
    assert mcnemar(won, lost) == pytest.approx(expected, rel=1e-9)


def test_a_model_that_wins_thirty_rows_and_loses_twelve_is_better():
    (found,) = compare([discordant(30, 12, 158)])
    assert found.verdict == "better"
    assert found.difference == pytest.approx(18 / 200)
    assert found.low > 0
    assert found.test == "McNemar, exact"


def test_of_a_figure_that_should_fall_a_rise_is_worse():
    (found,) = compare([tuple(mean("loss", s, signature="s", higher_is_better=False) for s in _shifted(0.5))])
    assert (found.verdict, found.difference) == ("worse", pytest.approx(0.5))


def test_equal_answers_to_many_rows_show_no_difference_and_to_few_rows_too_little():
    (many,) = compare([discordant(0, 0, 3000)])
    (few,) = compare([discordant(0, 0, 10)])
    assert (many.verdict, many.p_value) == ("no_difference_shown", 1.0)
    assert few.verdict == "too_little_data"
    assert few.smallest_detectable > 0.1


def test_figures_of_another_signature_or_other_rows_cannot_be_compared():
    first = mean("score", [0.1, 0.2], signature="case:lower")
    with pytest.raises(ValueError, match="cannot be compared"):
        compare([(first, mean("score", [0.1, 0.2], signature="case:mixed"))])
    with pytest.raises(ValueError, match="cannot be compared"):
        compare([(first, mean("score", [0.1], signature="case:lower"))])


def test_holms_correction_keeps_the_order_given_and_never_falls_below_a_smaller_p():
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_at_least_as_careful_as_benjamini_hochberg_and_at_most_as_bonferroni(p_values):
    adjusted = np.array(holm(p_values))
    assert (adjusted >= false_discovery_control(p_values) - 1e-12).all()
    assert (adjusted <= np.minimum(1, np.array(p_values) * len(p_values)) + 1e-12).all()


def test_a_second_figure_can_take_away_what_one_alone_would_show():
    pair = discordant(24, 10, 166)  # p = 0.024
    assert compare([pair])[0].verdict == "better"
    assert compare([pair, discordant(5, 5, 190), discordant(3, 3, 194)])[0].verdict != "better"


def test_randomisation_of_a_mean_is_the_exact_test_over_all_signs():
    changes = np.array([0.3, -0.1, 0.25, 0.4, -0.05, 0.15, 0.2, -0.2, 0.35, 0.1])
    first, second = mean("s", np.zeros(10), signature="s"), mean("s", changes, signature="s")
    signs = np.array(np.meshgrid(*[[-1, 1]] * 10)).reshape(10, -1)
    exact = np.mean(np.abs(changes @ signs) >= changes.sum() - 1e-9)
    assert randomisation(first, second, seed=0, swaps=20_000) == pytest.approx(exact, abs=0.01)


def test_equal_models_are_seldom_called_different():
    draw = np.random.default_rng(0)
    claims = 0
    for seed in range(300):
        scores = [draw.beta(0.5, 1.5, size=100) for _ in range(2)]
        first, second = (ratio("score", score, np.ones(100), signature="s") for score in scores)
        claims += randomisation(first, second, seed=seed, swaps=400) < 0.05
    assert claims / 300 <= 0.09  # 5 % and three standard errors; 2,000 pairs are simulated in bench/


def test_a_difference_of_the_smallest_detectable_size_is_found_in_four_of_five_cases():
    draw = np.random.default_rng(0)
    rate = 0.2
    stated = compare([discordant(20, 20, 160)])[0].smallest_detectable
    won = draw.binomial(200, rate, size=20_000)
    gains = draw.binomial(won, (1 + stated / rate) / 2)
    found = [mcnemar(int(g), int(w - g)) < 0.05 and g > w - g for g, w in zip(gains, won, strict=True)]
    assert 0.79 <= np.mean(found) <= 0.84


def _shifted(by: float):
    scores = np.random.default_rng(2).random(80)
    return scores, scores + by
