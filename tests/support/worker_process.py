"""`python -m tests.support.worker_process ROLE NAME LOOK_SECONDS [ENGINE COMMAND …]`: a real worker.

What the outside may do to it, by variables:
CHAOS_COMMITS_FAIL_ONE_IN=N with CHAOS_COUNTER=FILE   a commit happens and its answer is lost; one byte in FILE for each
CHAOS_CLOCK_SECONDS=S   this machine's clock is wrong by so much; `jumps`: by up to ten days either way at each look
CHAOS_STORE_SECONDS=S   the artifact store takes so long for each file, as one far away does
"""

import datetime as dt
import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

from sqlalchemy.exc import OperationalError

from app import clock, logs
from app.artifacts.base import Stored
from app.artifacts.local import LocalStore
from app.contracts.tasks import Queue
from app.db.engine import UnitOfWork
from app.settings import load_settings
from workers.run import run_worker
from workers.supervisor.engine_process import ENGINE_COMMAND
from workers.supervisor.identity import WorkerName

_TEN_DAYS = 864_000.0


def lose_answers_of_commits(one_in: int, counter: Path) -> None:
    chance = random.Random(os.getpid())  # noqa: S311 - no secret
    commit = UnitOfWork.commit

    def commit_then_fail(work: UnitOfWork) -> None:
        commit(work)
        if chance.randrange(one_in) == 0:
            with counter.open("ab") as file:
                file.write(b"x")
            raise OperationalError("COMMIT", {}, ConnectionError("connection reset after the commit"))

    UnitOfWork.commit = commit_then_fail


def shift_clock(seconds: Callable[[], float]) -> None:
    """Wall clock only: no setting of a clock moves `time.monotonic`."""
    real, now = time.time, clock.SystemClock.now
    time.time = lambda: real() + seconds()
    clock.SystemClock.now = lambda self: now(self) + dt.timedelta(seconds=seconds())


def slow_down_store(seconds: float) -> None:
    put_file = LocalStore.put_file

    def put_file_slowly(store: LocalStore, key: str, path: Path) -> Stored:
        time.sleep(seconds)
        return put_file(store, key, path)

    LocalStore.put_file = put_file_slowly


if __name__ == "__main__":
    role, name, look_seconds, *command = sys.argv[1:]
    logs.configure(f"worker {name}")
    if one_in := os.environ.get("CHAOS_COMMITS_FAIL_ONE_IN"):
        lose_answers_of_commits(int(one_in), Path(os.environ["CHAOS_COUNTER"]))
    if seconds := os.environ.get("CHAOS_CLOCK_SECONDS"):
        chance = random.Random(os.getpid())  # noqa: S311 - no secret
        shift_clock((lambda: chance.uniform(-1, 1) * _TEN_DAYS) if seconds == "jumps" else (lambda: float(seconds)))
    if delay := os.environ.get("CHAOS_STORE_SECONDS"):
        slow_down_store(float(delay))
    sys.exit(
        run_worker(
            load_settings(),
            Queue(role),
            WorkerName(name, "test-host"),
            engine_command=command or ENGINE_COMMAND,
            look_seconds=float(look_seconds),
        )
    )
