"""An event loop whose time is a number: waiting takes none, and every delay is exact."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

ResultT = TypeVar("ResultT")


class VirtualLoop(asyncio.SelectorEventLoop):
    """Jumps to the next thing that is due. Not for sockets: what comes from outside has no place in its time."""

    def __init__(self) -> None:
        self._now = 1000.0
        super().__init__(_NoWaiting(self))

    def time(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        """Also stands for a program that was stopped that long."""
        self._now += seconds


class _NoWaiting(selectors.DefaultSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None):
        ready = super().select(0)
        if not ready:
            # Nothing ready and nothing due: the coroutine under test waits for ever.
            assert timeout is not None, "everything waits and nothing is due"
            self._loop.advance(timeout)
        return ready


def run_virtually(coroutine: Coroutine[Any, Any, ResultT]) -> ResultT:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(coroutine)
