"""Collects what is wrong with one row, so that all of it is reported at once."""

from dataclasses import dataclass, field


@dataclass
class Findings:
    """Faults of one row: (check, text), the text to follow "Example N"."""

    found: list[tuple[str, str]] = field(default_factory=list)

    def add(self, check: str, text: str) -> None:
        self.found.append((check, text))

    def __bool__(self) -> bool:
        return bool(self.found)
