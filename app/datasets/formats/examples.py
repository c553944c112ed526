"""What every syntax makes of a file: one example after the other, as columns by name."""

from dataclasses import dataclass, field
from typing import Any

from app.datasets.formats.findings import Findings


@dataclass
class Example:
    """One row as written. `value` is None if it could not be read; then `findings` say why."""

    line: int
    value: dict[str, Any] | None = None
    findings: Findings = field(default_factory=Findings)
    token_lines: list[int] | None = None
    """Where each token has a line of its own: which."""


class HeaderFault(Exception):  # noqa: N818 - a fault of the user's file, named as in reports
    """The columns of a table cannot be told: nothing can be said of its rows."""

    def __init__(self, check: str, message: str, line: int) -> None:
        super().__init__(message)
        self.check = check
        self.message = message
        self.line = line
