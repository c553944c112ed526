"""A pool under fire: Postgres that syncs, Redis, a control worker and several GPU workers, each its own process.

Engines are scripted (no model), everything else is what production runs. Each worker has a connection that carries its
name, so that the history can tell who wrote.
"""

import os
import random
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self, TypeVar

import psutil
import psycopg
from pydantic import SecretStr
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.context import Context, open_context
from app.db.migrate import upgrade
from app.embedded.postgres import EmbeddedPostgres
from app.embedded.redis import EmbeddedRedis
from app.embedded.sockets import private_socket_folder
from app.settings import Settings
from tests.faults import history
from tests.support.house import House

LEASE_SECONDS = 5
HEARTBEAT_SECONDS = 0.3
STEP_SECONDS = 0.03
STEPS = 10
# Of one job in the goals that throw hundreds of faults at few jobs; the cap itself is goal G9. Of losses, too.
MANY_ATTEMPTS = 1_000_000
_OPEN_JOBS = 6
_DRAIN_SECONDS = 120.0

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Killed:
    """A worker's death, by the database's clock."""

    job_id: str
    fence: int
    at: float


@dataclass(frozen=True)
class Held:
    """A job that a worker trains at this moment."""

    job_id: str
    worker: str
    fence: int


class World:
    """Use as `with World(seed) as world:`. Everything random comes from `chance`."""

    def __init__(
        self,
        seed: int,
        *,
        workers: int = 3,
        max_attempts: int = MANY_ATTEMPTS,
        has_control: bool = True,
        changed: Mapping[str, object] = MappingProxyType({}),
    ) -> None:
        self.chance = random.Random(seed)  # noqa: S311 - no secret
        self.folder = Path(tempfile.mkdtemp(prefix="tsm-faults-"))
        self.workers: dict[str, subprocess.Popen[bytes]] = {}
        self.jobs: list[str] = []
        self.killed_at: list[Killed] = []
        self.wanted_workers = workers
        self._max_attempts = max_attempts
        self._has_control = has_control
        self._changed = changed
        self._names = 0
        self.log = (self.folder / "workers.log").open("ab")
        self._stopping = threading.Event()

    def __enter__(self) -> Self:
        sockets = private_socket_folder(self.folder / "run")
        self.postgres = EmbeddedPostgres(self.folder / "postgres", sockets, log_file=self.folder / "postgres.log")
        self.postgres.prepare()
        self.postgres_process = self.start_postgres()
        self.postgres.create_database()
        self.redis = EmbeddedRedis(sockets, log_file=self.folder / "redis.log")
        self.redis_process = self.start_redis()
        upgrade(self.postgres.url())
        history.install(self.postgres.url())
        self.house = House(self.open_context("harness"), self.folder)
        self.house.script(step_seconds=STEP_SECONDS)
        self._hurry = threading.Thread(target=self._cut_pauses_short, daemon=True)
        if self._has_control:
            self._control = self.house.start_worker("control", "control0", self._named("control"), output=self.log)
            self._hurry.start()
        self.staff()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stopping.set()
        processes = list(self.workers.values())
        if self._has_control:
            self._hurry.join()
            processes.append(self._control)
        for process in processes:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()
        self.house.context.close()
        self.log.close()
        EmbeddedRedis.stop(self.redis_process)
        EmbeddedPostgres.stop(self.postgres_process)
        if kind is None:
            shutil.rmtree(self.folder)

    # Servers.

    def start_postgres(self) -> subprocess.Popen[bytes]:
        process = self.postgres.spawn()
        self.postgres.wait_ready(process)
        return process

    def start_redis(self) -> subprocess.Popen[bytes]:
        process = self.redis.spawn()
        self.redis.wait_ready(process)
        return process

    def sql(self, statement: str, *values: object) -> list[tuple[object, ...]]:
        """Asked again while the database is away."""

        def ask() -> list[tuple[object, ...]]:
            with psycopg.connect(self._url("harness"), autocommit=True, connect_timeout=2) as connection:
                cursor = connection.execute(statement, values)  # type: ignore[arg-type]
                return cursor.fetchall() if cursor.description else []

        return self.again(ask)

    @staticmethod
    def again(verb: Callable[[], Answer], seconds: float = 60.0) -> Answer:
        """What a client does whose request failed for want of a database: the same request again."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                return verb()
            except (psycopg.OperationalError, psycopg.errors.AdminShutdown, DBAPIError, PoolTimeout):
                if time.monotonic() > deadline:
                    raise
                threading.Event().wait(0.05)

    # Workers.

    def staff(self, *, variables: dict[str, str] | None = None, within: Sequence[str] = ()) -> None:
        """Start workers, under names never used before, until there are enough; `within` as `start_worker` has it."""
        while len(self.workers) < self.wanted_workers:
            name = f"gpu{self._names}"
            self._names += 1
            self.workers[name] = self.house.start_worker(
                "gpu",
                name,
                self._named(name),
                look_seconds=0.3,
                variables=variables or {},
                output=self.log,
                within=within,
            )

    def bury(self) -> int:
        """Forget the workers that ended by themselves, for `staff` to replace; how many those were."""
        dead = [name for name, process in self.workers.items() if process.poll() is not None]
        for name in dead:
            del self.workers[name]
        return len(dead)

    def dismiss(self) -> None:
        """All workers leave in good order."""
        for process in self.workers.values():
            process.terminate()
        for process in self.workers.values():
            process.wait(40)
        self.workers.clear()

    def kill_worker(self, held: "Held") -> None:
        """kill -9 of the worker that trains a job; it never comes back under this name."""
        process = self.workers.pop(held.worker)
        ((now,),) = self.sql("SELECT extract(epoch FROM clock_timestamp())::float8")
        self.killed_at.append(Killed(held.job_id, held.fence, float(str(now))))
        process.kill()
        process.wait()

    def engine_of(self, name: str) -> psutil.Process | None:
        """The engine beside a worker, if it has one."""
        try:
            children = psutil.Process(self.workers[name].pid).children()
            return next((child for child in children if "scripted_engine" in " ".join(child.cmdline())), None)
        except psutil.NoSuchProcess:
            return None

    # Jobs.

    def submit(self) -> str:
        """Ten steps of 30 ms, queued; an interrupted request is made again."""
        job_id = self.again(self.house.submit)
        self.jobs.append(job_id)
        return job_id

    def keep_busy(self) -> None:
        """Have some jobs open, so that every worker has one and others wait."""
        (row,) = self.sql("SELECT count(*) FROM jobs WHERE status IN ('validating_files', 'queued', 'running')")
        for _ in range(_OPEN_JOBS - int(str(row[0]))):
            self.submit()

    def held(self) -> list[Held]:
        """Jobs in training now."""
        rows = self.sql("SELECT id, owner, fence FROM jobs WHERE status = 'running' AND owner IS NOT NULL ORDER BY id")
        return [Held(str(job), str(owner).partition("@")[0], int(str(fence))) for job, owner, fence in rows]

    def a_held_job(self) -> Held:
        """One of them, of a worker that is alive; waits until there is one."""
        found: list[Held] = []

        def is_there() -> bool:
            self.keep_busy()
            found[:] = [held for held in self.held() if held.worker in self.workers]
            return bool(found)

        self.house.wait_until(is_there, "a job in training", 60)
        return self.chance.choice(found)

    def lost(self) -> list[str]:
        """Wait for the end of all jobs; those that did not succeed with an unbroken run's adapter, and why.

        They are not looked at again.
        """
        deadline = time.monotonic() + _DRAIN_SECONDS
        while self.sql("SELECT 1 FROM jobs WHERE status IN ('validating_files', 'queued', 'running') LIMIT 1"):
            if time.monotonic() > deadline:
                break
            threading.Event().wait(0.1)
        ended, self.jobs = self.jobs, []
        # The last fault may have cut the connection that the first look takes.
        problems = [self.again(partial(self._problem, job_id)) for job_id in ended]
        return [problem for problem in problems if problem is not None]

    def _problem(self, job_id: str) -> str | None:
        job = self.house.job(job_id)
        if job.status != "succeeded":
            return f"{job_id} is {job.status}: {self.house.events(job_id)[-3:]}"
        finals = [model for model in self.house.models(job_id).values() if ":ckpt-step-" not in model.id]
        if sorted(self.house.metrics(job_id)) != list(range(1, STEPS + 1)):
            return f"{job_id} has the figures of the steps {sorted(self.house.metrics(job_id))} only"
        if len(finals) != 1:
            return f"{job_id} has {len(finals)} results"
        if self.house.adapter_sha256(job_id) != self.house.unbroken_adapter_sha256(job_id):
            return f"{job_id} has another adapter than an unbroken run"
        return None

    def _cut_pauses_short(self) -> None:
        """Pauses before another attempt are time, not safety: the goals are about the latter."""
        while not self._stopping.wait(0.3):
            self.sql("UPDATE jobs SET not_before = NULL WHERE not_before IS NOT NULL AND owner IS NULL")

    def open_context(self, writer: str) -> Context:
        """What a process of this name holds; the caller closes it."""
        return open_context(self._settings(writer))

    def _url(self, writer: str) -> str:
        return f"{self.postgres.url()}&options=-c%20tunesmith.writer%3D{writer}"

    def _named(self, writer: str) -> dict[str, object]:
        return {"database_url": SecretStr(self._url(writer))}

    def _settings(self, writer: str) -> Settings:
        for name in ("artifacts", "bases", "scratch"):
            (self.folder / name).mkdir(exist_ok=True)
        return Settings.model_validate(
            {
                "database_url": self._url(writer),
                "redis_url": self.redis.url,
                "artifacts_url": (self.folder / "artifacts").as_uri(),
                "bases_dir": self.folder / "bases",
                "scratch_dir": self.folder / "scratch",
                "lease_seconds": LEASE_SECONDS,
                "heartbeat_seconds": HEARTBEAT_SECONDS,
                "tick_seconds": 0.3,
                "max_attempts": self._max_attempts,
                "max_losses": MANY_ATTEMPTS,
                **self._changed,
            }
        )


def pause(seconds: float) -> None:
    """Let a fault last for a while."""
    threading.Event().wait(seconds)


def send(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """A signal to a process that may have ended."""
    with suppress(ProcessLookupError):
        os.kill(process.pid, number)
