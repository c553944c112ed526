"""Starts a child process that cannot outlive us, in a session of its own."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

_WRAPPER = Path(__file__).with_name("bound_exec.py")


def start_bound(
    command: Sequence[str | Path],
    *,
    output: int | IO[bytes],
    environment: Mapping[str, str] | None = None,
    death_signal: signal.Signals = signal.SIGKILL,
    user: str | None = None,
) -> subprocess.Popen[bytes]:
    """Start `command` with stdout and stderr to `output` and nothing on stdin.

    The kernel sends it `death_signal` when the *thread* that called this ends, so call it from the main
    thread or one that lives as long as the process. Signals of the terminal (Ctrl-C) do not reach it.
    `user` is for root only: the account to run as.
    """
    wrapper = [sys.executable, "-I", "-S", str(_WRAPPER), str(os.getpid()), str(int(death_signal)), user or "-"]
    return subprocess.Popen(
        [*wrapper, *(str(part) for part in command)],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        env=None if environment is None else dict(environment),
        start_new_session=True,
    )


def stop(process: subprocess.Popen[bytes], first: signal.Signals, *, seconds: float) -> bool:
    """Send `first`; after `seconds` kill. True if the process ended by itself in time."""
    if process.poll() is not None:
        return True
    process.send_signal(first)
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return False
    return True
