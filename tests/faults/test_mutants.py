"""The list of mutants fits the code; `make faults GOALS=mutants` runs them."""

import pytest

from tests.faults.mutations import MUTANTS, Mutant
from tests.support.house import REPOSITORY


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.what)
def test_each_mutant_has_its_place(mutant: Mutant) -> None:
    path = REPOSITORY / mutant.path
    changed = mutant.apply(path.read_text())
    assert changed != path.read_text()
    compile(changed, mutant.path, "exec")  # a test that fails for want of syntax shows nothing
    for killer in mutant.killers.split(" "):
        assert (REPOSITORY / killer.partition("::")[0]).exists(), killer


def test_there_are_at_least_thirty() -> None:
    assert len({mutant.what for mutant in MUTANTS}) == len(MUTANTS) >= 30
