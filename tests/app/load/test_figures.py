"""Figures of records made by hand: throughput, goodput, concurrency, percentiles, differences, cost."""

import random

import numpy as np
import pytest

from app.load.answer import Answer, Record
from app.load.arrivals import poisson_arrivals
from app.load.cost import cost_of
from app.load.figures import TIMES, figures_of, p95_rise
from app.load.percentiles import bootstrap, percentile
from app.load.plan import Limits

E2E = TIMES["request.duration"]


def record(planned, first, whole, *, block=0, tokens=11, fails=False):
    answer = Answer(planned + first, planned + whole, planned + whole, tokens, 20, tokens, is_counted_by_service=True)
    if fails:
        return Record(block, planned, planned, planned + whole, None, "HTTP 503", "full")
    return Record(block, planned, planned, planned + whole, answer)


def test_throughput_counts_successes_over_the_seconds_of_the_blocks_alone():
    # Between the two blocks another model was asked for 90 s.
    records = [
        record(0, 0.1, 2),
        record(1, 0.1, 3, fails=True),
        record(94, 0.1, 1, block=2),
        record(97, 0.1, 3, block=2),
    ]
    found = figures_of(records, Limits(), seed=0).throughput
    assert found.seconds == pytest.approx(4 + 6)
    assert found.busy_share == pytest.approx((4 + 1 + 3) / 10)
    assert found.requests_per_second == pytest.approx(3 / 10)
    assert found.answer_tokens_per_second == pytest.approx(33 / 10)
    assert found.tokens_per_second == pytest.approx(93 / 10)


def test_goodput_takes_requests_that_keep_every_limit_and_no_failed_one():
    records = [record(0, 0.1, 1), record(1, 0.5, 1), record(2, 0.1, 3), record(3, 0.1, 0.5, fails=True)]
    assert figures_of(records, Limits(0.2, 2), seed=0).goodput.requests == 1
    assert figures_of(records, Limits(0.2, None), seed=0).goodput.requests == 2
    assert figures_of(records, Limits(None, 2), seed=0).goodput.share == pytest.approx(0.5)
    assert figures_of(records, Limits(), seed=0).goodput is None


def test_concurrency_is_the_requests_waiting_at_once():
    found = figures_of([record(0, 0.1, 4), record(1, 0.1, 2), record(2, 0.1, 4), record(3, 0.1, 1)], Limits(), seed=0)
    assert found.concurrency.peak == 3
    assert found.concurrency.mean == pytest.approx(11 / 6)
    assert (found.concurrency.left, found.concurrency.left_halfway) == (2, 1)


def test_percentiles_are_numpys():
    draw = random.Random(0)  # noqa: S311
    values = [draw.expovariate(1) for _ in range(137)]
    for percent in (0, 50, 90, 95, 99, 100):
        assert percentile(values, percent) == pytest.approx(np.percentile(values, percent), rel=1e-12)
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)


def test_the_same_seed_gives_the_same_interval():
    values = list(range(50))
    first, again, other = (bootstrap(50, lambda at: percentile([values[i] for i in at], 95), seed=s) for s in (1, 1, 2))
    assert first == again
    assert other is not None


@pytest.mark.parametrize("memory", [0.0, 0.6])
def test_the_interval_of_a_p95_holds_the_true_one_about_as_often_as_it_says(memory):
    """Also where neighbours are alike, as in a queue: a Gaussian AR(1), whose 95th percentile is 1.645."""
    draw, held, trials, count = random.Random(3), 0, 80, 300  # noqa: S311
    for trial in range(trials):
        now, values = draw.gauss(0, 1), []
        for _ in range(count):
            now = memory * now + (1 - memory**2) ** 0.5 * draw.gauss(0, 1)
            values.append(now)
        found = bootstrap(
            count, lambda at, values=values: percentile([values[i] for i in at], 95), seed=trial, resamples=200
        )
        held += found.low <= 1.6449 <= found.high
    assert held / trials >= 0.84


def test_few_or_failed_requests_have_no_interval():
    assert bootstrap(1, lambda _: 1.0, seed=0) is None
    found = figures_of([record(i, 0.1, 1, fails=i > 0) for i in range(10)], Limits(), seed=0)
    assert found.times["request.duration"].p95_interval is None
    none = figures_of([record(i, 0.1, 1, fails=True) for i in range(10)], Limits(), seed=0)
    assert none.times["request.duration"] is None
    assert (none.failed, none.throughput.requests_per_second) == (10, 0)


def test_the_difference_is_taken_in_pairs():
    draw = random.Random(1)  # noqa: S311
    wholes = [draw.expovariate(1) + 0.2 for _ in range(60)]
    base = [record(i, 0.1, whole, block=i // 20) for i, whole in enumerate(wholes)]
    slower = [record(i, 0.1, 1.1 * whole, block=i // 20) for i, whole in enumerate(wholes)]
    found = p95_rise(base, slower, E2E, seed=0)
    # Every request takes a tenth longer, so there is no doubt about the tenth.
    assert (found.share, found.interval.low, found.interval.high) == pytest.approx((0.1, 0.1, 0.1))
    assert found.by_turn == pytest.approx((0.1, 0.1, 0.1))
    assert p95_rise(base, [record(0, 0, 1, fails=True)] * 60, E2E, seed=0) is None


def test_cost_follows_from_price_throughput_and_utilisation():
    found = cost_of(
        price_per_hour=3.6,
        utilisation=0.5,
        requests_per_second=2,
        answer_tokens_per_second=100,
        tokens_per_second=1000,
    )
    # 3.60 an hour is 0.001 a second; half of the hours are idle.
    assert found.per_1000_requests == pytest.approx(1.0)
    assert found.per_million_answer_tokens == pytest.approx(20.0)
    assert found.per_million_tokens == pytest.approx(2.0)


def test_nothing_answered_has_no_cost_and_a_wrong_utilisation_is_refused():
    figures = {"requests_per_second": 0.0, "answer_tokens_per_second": 0.0, "tokens_per_second": None}
    assert cost_of(price_per_hour=1, utilisation=1, **figures) is None
    for utilisation in (0, 1.2):
        with pytest.raises(ValueError, match="utilisation"):
            cost_of(price_per_hour=1, utilisation=utilisation, **figures)


def test_arrivals_are_a_poisson_process_that_a_seed_repeats():
    times = poisson_arrivals(4, 4000, seed="0:0")
    gaps = np.diff((0.0, *times))
    assert gaps.min() > 0
    assert gaps.mean() == pytest.approx(0.25, rel=0.05)
    assert gaps.std() == pytest.approx(0.25, rel=0.05)
    assert np.mean(gaps > 0.5) == pytest.approx(np.exp(-2), rel=0.1)
    assert abs(np.corrcoef(gaps[1:], gaps[:-1])[0, 1]) < 0.05
    assert poisson_arrivals(4, 4000, seed="0:0") == times
    assert poisson_arrivals(4, 4000, seed="0:1") != times
    with pytest.raises(ValueError, match="above 0"):
        poisson_arrivals(0, 1, seed="")
