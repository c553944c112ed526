"""Intervals of measured times hold for any distribution, or are left out."""

import numpy as np

from workers.engine.evaluation.statistics.quantiles import latency_figures, quantile_bounds


def test_the_interval_holds_the_true_quantile_in_95_of_100_draws_of_a_skewed_distribution():
    generator = np.random.default_rng(1)
    truth = float(np.exp(1.6448536))  # of a lognormal
    draws = [quantile_bounds(generator.lognormal(size=100).tolist(), 0.95) for _ in range(2000)]
    held = np.mean([low <= truth <= high for low, high in draws])
    assert 0.94 <= held <= 0.985


def test_too_few_answers_have_no_interval_of_their_95th_percentile():
    assert quantile_bounds(list(range(71)), 0.95) is None
    assert quantile_bounds(list(range(72)), 0.95) is not None


def test_a_latency_is_a_figure_where_it_has_an_interval():
    assert [one.name for one in latency_figures([5.0] * 16, signature="s")] == ["p50_ms"]
    (median, tail) = latency_figures([float(i) for i in range(101)], signature="s")
    assert (median.value, tail.value) == (50.0, 95.0)
    assert tail.low < 95.0 < tail.high
    assert not tail.higher_is_better
