"""Keeps a set of child processes alive: starts them, restarts what dies, stops all in order."""

import json
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from app.embedded.bound_process import stop
from app.embedded.data_folder import write_private_json
from app.logs import logger

_FIRST_DELAY_SECONDS = 0.2
_LONGEST_DELAY_SECONDS = 5.0
# A process that lived this long had a good start; its next death is a first one.
_STEADY_SECONDS = 10.0


@dataclass(frozen=True)
class Member:
    """One process of the tree. Members of a lower `layer` start before and stop after those of a higher one."""

    name: str
    layer: int
    spawn: Callable[[], subprocess.Popen[bytes]]
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds: float = 10.0


class _Running:
    """A member with its current process and the history that sets the back-off."""

    def __init__(self, member: Member) -> None:
        self.member = member
        self.failures = 0
        self.start_again_at: float | None = None
        self.process = member.spawn()
        self.started_at = time.monotonic()

    def check(self) -> bool:
        """Note a death, start again when its delay is over. True if the process was started anew."""
        now = time.monotonic()
        if self.start_again_at is None:
            code = self.process.poll()
            if code is None:
                return False
            if now - self.started_at >= _STEADY_SECONDS:
                self.failures = 0
            delay = min(_LONGEST_DELAY_SECONDS, _FIRST_DELAY_SECONDS * 2**self.failures)
            self.failures = min(self.failures + 1, 16)
            self.start_again_at = now + delay
            logger.warning("%s ended (code %s); it is started again in %.1f s", self.member.name, code, delay)
        if now < self.start_again_at:
            return False
        self.process = self.member.spawn()
        self.started_at = now
        self.start_again_at = None
        return True


class ProcessTree:
    """The children of one `tunesmith up`. Use from one lasting thread: children die with their starter."""

    def __init__(self, pids_file: Path) -> None:
        self._pids_file = pids_file
        self._running: list[_Running] = []

    def stop_leftovers(self) -> None:
        """Kill what a run before us left (where the kernel does not do that); known by number and start time."""
        if not self._pids_file.exists():
            return
        leftovers = []
        for pid, created in json.loads(self._pids_file.read_text()):
            try:
                process = psutil.Process(pid)
                if process.create_time() == created and process.status() != psutil.STATUS_ZOMBIE:
                    process.kill()
                    leftovers.append(process)
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(leftovers, timeout=10)
        self._pids_file.unlink()

    def start(self, member: Member) -> subprocess.Popen[bytes]:
        running = _Running(member)
        self._running.append(running)
        self._note()
        return running.process

    def check(self) -> None:
        """Restart what died; call a few times a second."""
        restarted = [running.check() for running in self._running]
        if any(restarted):
            self._note()

    def stop(self, *, is_hurried: Callable[[], bool] = lambda: False) -> None:
        """Stop layer by layer, the highest first. Once `is_hurried()`, what is above layer 0 is killed at once."""
        for layer in sorted({running.member.layer for running in self._running}, reverse=True):
            self._stop_layer([r for r in self._running if r.member.layer == layer], is_hurried)
        self._running.clear()
        self._pids_file.unlink(missing_ok=True)

    @staticmethod
    def _stop_layer(layer: Sequence[_Running], is_hurried: Callable[[], bool]) -> None:
        for running in layer:
            if running.process.poll() is None:
                running.process.send_signal(running.member.stop_signal)
        begun = time.monotonic()
        waiting = [running for running in layer if running.process.poll() is None]
        while waiting:
            for running in waiting:
                late = time.monotonic() - begun > running.member.stop_seconds
                if late or (is_hurried() and running.member.layer > 0):
                    logger.warning("%s did not stop in time and is killed", running.member.name)
                    stop(running.process, signal.SIGKILL, seconds=10)
            time.sleep(0.05)
            waiting = [running for running in waiting if running.process.poll() is None]

    def _note(self) -> None:
        known = []
        for running in self._running:
            try:
                known.append((running.process.pid, psutil.Process(running.process.pid).create_time()))
            except psutil.NoSuchProcess:
                continue
        write_private_json(self._pids_file, known)
