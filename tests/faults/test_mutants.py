"""The list of mutants fits the code; `make faults GOALS=mutants` runs them."""

import pytest

from tests.faults.mutations import MUTANTS, Mutant
from tests.support.house import REPOSITORY


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.what)
def test_each_mutant_has_its_place(mutant: Mutant) -> None:
    path = REPOSITORY / mutant.path
    assert mutant.apply(path.read_text()) != path.read_text()


def test_there_are_at_least_thirty() -> None:
    assert len({mutant.what for mutant in MUTANTS}) == len(MUTANTS) >= 30
