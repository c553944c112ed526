"""The time of one GPU among those that ride on it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.usage.sharing import Part, shared_seconds


def test_one_alone_has_all_of_the_time_whatever_it_did():
    assert shared_seconds([Part(10.0, 0)], 25.0) == [15.0]


def test_two_share_by_their_tokens():
    assert shared_seconds([Part(0.0, 300), Part(0.0, 100)], 8.0) == pytest.approx([6.0, 2.0])


def test_time_without_any_tokens_is_shared_equally():
    assert shared_seconds([Part(0.0, 0), Part(0.0, 0)], 8.0) == pytest.approx([4.0, 4.0])


def test_who_came_later_pays_nothing_of_the_time_before():
    assert shared_seconds([Part(0.0, 100), Part(5.0, 50)], 10.0) == pytest.approx([7.5, 2.5])


SECONDS = st.integers(0, 150_000_000).map(lambda microseconds: microseconds / 1e6)  # as Postgres keeps time


@given(st.lists(st.tuples(SECONDS, st.integers(0, 10_000)), min_size=1, max_size=6), SECONDS)
def test_the_parts_are_together_the_time_in_which_anybody_was_there(parts, until):
    seconds = shared_seconds([Part(*part) for part in parts], until)
    assert all(each >= 0 for each in seconds)
    assert sum(seconds) == pytest.approx(max(0.0, until - min(since for since, _ in parts)), abs=1e-6)
