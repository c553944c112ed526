"""Collects what is wrong with one row, so that all of it is reported at once."""

from dataclasses import dataclass, field
from typing import NamedTuple


class Finding(NamedTuple):
    """`text` is to follow "Example N"; `line` is None where the row's first line is meant."""

    check: str
    text: str
    line: int | None


MAX_FINDINGS = 1000


@dataclass
class Findings:
    """Faults of one row, the first `MAX_FINDINGS` of them: a row may be one long list of faults."""

    found: list[Finding] = field(default_factory=list)

    def add(self, check: str, text: str, *, line: int | None = None) -> None:
        if len(self.found) < MAX_FINDINGS:
            self.found.append(Finding(check, text, line))
        elif len(self.found) == MAX_FINDINGS:
            self.found.append(Finding("too_many_faults", f" has more than {MAX_FINDINGS:,} faults", line))

    def __bool__(self) -> bool:
        return bool(self.found)
