"""One fault of our own, and the tests that are named by several."""

from dataclasses import dataclass

FAULTS = "tests/faults"
GOAL = f"{FAULTS}/test_goals.py::test_nothing_is_lost_nor_done_twice"


@dataclass(frozen=True)
class Mutant:
    """In `path`, `old` (which occurs once) becomes `new`; one of the tests in `killers` must fail."""

    what: str
    path: str
    old: str
    new: str
    killers: str

    def apply(self, text: str) -> str:
        """`text` with the fault in it; `ValueError` if the place is gone or not the only one."""
        if text.count(self.old) != 1:
            raise ValueError(f"'{self.what}': its place occurs {text.count(self.old)} times in {self.path}")
        return text.replace(self.old, self.new)
