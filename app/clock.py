"""The time, behind a Protocol so that tests own it. Leases use the database's clock instead."""

from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    def now(self) -> datetime:
        """The current time, aware, in UTC."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)


def unix_seconds(moment: datetime) -> int:
    """Whole seconds since the epoch, as the wire wants them."""
    return int(moment.timestamp())
