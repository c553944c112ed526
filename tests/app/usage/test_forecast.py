"""Figures for a job that has not run, from jobs that have."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.usage.forecast import EarlierJob, error_percent, gpu_seconds, likely_device, line, tokens_per_byte


def job(tokens=1000, seconds=10.0, *, device="cuda", file_bytes=4000, share=1.0, epoch_tokens=1000):
    return EarlierJob(file_bytes, share, epoch_tokens, tokens, seconds, device)


def test_where_nothing_was_measured_it_says_so():
    assert tokens_per_byte([]).value == 0.25
    assert "assumed" in tokens_per_byte([]).basis
    found = gpu_seconds([], "cuda", 1000)
    assert found.value is None
    assert "no job on this base" in found.basis
    assert gpu_seconds([job()], "cpu", 1000).value is None


def test_tokens_come_from_the_bases_own_ratio_of_the_rows_that_trained():
    jobs = [
        job(file_bytes=4000, share=0.5, epoch_tokens=1000),
        job(file_bytes=1000, epoch_tokens=500),
        job(epoch_tokens=9999),
    ]
    assert tokens_per_byte(jobs).value == 0.5
    assert "3 earlier jobs" in tokens_per_byte(jobs).basis


def test_seconds_are_a_start_and_a_price_for_each_token():
    jobs = [job(tokens, 30 + tokens / 100) for tokens in (1000, 5000, 20_000)] + [job(7, 9e9, device="cpu")]
    assert gpu_seconds(jobs, "cuda", 10_000).value == pytest.approx(130)
    assert "3 earlier jobs on this base and cuda" in gpu_seconds(jobs, "cuda", 1).basis


def test_one_job_or_several_of_one_size_give_a_proportion():
    assert gpu_seconds([job(1000, 10)], "cuda", 2000).value == pytest.approx(20)
    assert gpu_seconds([job(1000, 10), job(1000, 14)], "cuda", 2000).value == pytest.approx(24)


@given(st.lists(st.tuples(st.integers(1, 10**9), st.floats(0, 1e7)), min_size=1, max_size=30))
def test_neither_start_nor_price_is_ever_below_zero(points):
    start, by_token = line([float(tokens) for tokens, _ in points], [seconds for _, seconds in points])
    assert start >= 0
    assert by_token >= 0


def test_the_device_is_one_that_the_pool_has():
    jobs = [job(device="cuda"), job(device="cuda"), job(device="cpu")]
    assert likely_device(jobs, {"cpu", "cuda"}) == "cuda"
    assert likely_device(jobs, {"cpu"}) == "cpu"
    assert likely_device(jobs, set()) == "cuda"
    assert likely_device([], {"cpu"}) == "cpu"
    assert likely_device([], {"cpu", "cuda"}) is None


def test_the_error_is_in_percent_of_what_was_billed():
    assert error_percent(150, 100) == 50
    assert error_percent(50, 100) == -50
    assert error_percent(None, 100) is None
    assert error_percent(5, 0) is None
