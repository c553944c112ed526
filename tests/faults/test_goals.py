"""The goals of losing nothing with few trials each; `make faults` runs them at full length, and the mutants."""

import secrets

import pytest

from tests.faults.goals import GOALS

_TRIALS = {
    "engines": 1,
    "supervisors": 1,
    "servers": 1,
    "races": 44,
    "submits": 13,
    "torn": 20,
    "scarcity": 1,
    "clocks": 1,
    "poison": 1,
    "cancels": 8,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in GOALS if name != "mutants"])
def test_nothing_is_lost_nor_done_twice(name: str) -> None:
    seed = secrets.randbelow(2**31)
    run, _ = GOALS[name]
    results = run(_TRIALS[name], seed)
    if any(result.trials == 0 for result in results):
        pytest.skip("; ".join(result.found for result in results if result.trials == 0))
    missed = [result for result in results if not result.is_reached]
    assert not missed, f"seed {seed}"
