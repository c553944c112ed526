"""What was read a moment ago, for all requests of a process."""

import time
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

Value = TypeVar("Value")


class Recent:
    """Keeps what everybody asks for and nobody needs to the second: how long the queue is, how fast earlier jobs were.

    Values are shared between threads, so they must be ones that nobody changes, and no rows of a session.
    """

    def __init__(self, max_age_seconds: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_age_seconds = max_age_seconds
        self._clock = clock
        self._held: dict[Hashable, tuple[float, Any]] = {}

    def get(self, key: Hashable, read: Callable[[], Value], *, is_fit: Callable[[Value], bool] | None = None) -> Value:
        """What was read under this key at most `max_age_seconds` ago and `is_fit`; else what `read` says now."""
        now = self._clock()
        held = self._held.get(key)
        if held is not None and now - held[0] < self._max_age_seconds:
            kept: Value = held[1]
            if is_fit is None or is_fit(kept):
                return kept
        value = read()
        self._held[key] = now, value
        return value
