"""Collects what is wrong with one row, so that all of it is reported at once."""

from dataclasses import dataclass, field
from typing import NamedTuple


class Finding(NamedTuple):
    """`text` is to follow "Example N"; `line` is None where the row's first line is meant."""

    check: str
    text: str
    line: int | None


@dataclass
class Findings:
    """Faults of one row."""

    found: list[Finding] = field(default_factory=list)

    def add(self, check: str, text: str, *, line: int | None = None) -> None:
        self.found.append(Finding(check, text, line))

    def __bool__(self) -> bool:
        return bool(self.found)
