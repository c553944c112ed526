"""The goals of losing nothing with few trials each; `make faults` runs them at full length, and the mutants."""

import secrets

import pytest

from tests.faults.goals import GOALS

_TRIALS = {"kinds": 1, "races": 44, "submits": 13, "torn": 20, "clocks": 1, "poison": 1, "cancels": 8}


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in GOALS if name != "mutants"])
def test_nothing_is_lost_nor_done_twice(name: str) -> None:
    seed = secrets.randbelow(2**31)
    run, _ = GOALS[name]
    missed = [result for result in run(_TRIALS[name], seed) if not result.is_reached]
    assert not missed, f"seed {seed}"
