"""How long a job should take, from how long earlier jobs of the same base took for each row that they read."""

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

MEASURED_JOBS = 20
"""The newest of a base; the median of them is its speed."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a job has to read: the rows of all epochs of a training, the held-out rows of an evaluation."""

    base_id: str
    purpose: str
    rows: int
    done_share: float = 0.0
    """Of its steps, that it need not do again."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A job that succeeded in one go: its rows, and the seconds from its start to its end, everything included."""

    base_id: str
    purpose: str
    rows: int
    seconds: float


class Speeds:
    """Seconds for each row, by base and kind of job."""

    def __init__(self, measured: Iterable[Measured]) -> None:
        found: dict[tuple[str, str], list[float]] = {}
        for one in measured:
            if one.rows > 0 and one.seconds > 0:
                found.setdefault((one.base_id, one.purpose), []).append(one.seconds / one.rows)
        self._seconds: Mapping[tuple[str, str], float] = {key: statistics.median(some) for key, some in found.items()}

    def seconds_of(self, work: Work) -> float | None:
        """None if no job of this base and kind has been measured."""
        per_row = self._seconds.get((work.base_id, work.purpose))
        return None if per_row is None else per_row * work.rows * (1.0 - min(1.0, work.done_share))
