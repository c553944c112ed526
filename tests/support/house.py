"""Fixture `house`: a team with a base and files, workers in threads or processes, and scripted engines."""

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

import pytest
from pydantic import SecretStr
from sqlalchemy import select

from app.bases.folder import BaseFolder
from app.context import Context, open_context
from app.db.engine import Database
from app.db.tables import CheckpointRow, Job, JobEvent, JobMetric, TunedModel
from app.factory import Services
from app.identity.caller import Caller
from app.jobs.schemas import JobCreate
from app.settings import Settings, to_environment
from workers.run import LOOK_SECONDS
from workers.supervisor.engine_process import engine_environment
from workers.supervisor.engine_run import Patience
from workers.supervisor.engine_slot import EngineSlot
from workers.supervisor.identity import WorkerName
from workers.supervisor.presence import Presence
from workers.supervisor.round import ControlRounds, inspect_round, train_round
from workers.tasks.rounds import Rounds

REPOSITORY = Path(__file__).parents[2]
SCRIPTED_ENGINE = REPOSITORY / "tests" / "support" / "scripted_engine.py"
HOST = "test-host"


class GpuWorker:
    """A supervisor in a thread of the test, with its engine."""

    def __init__(self, slot: EngineSlot, shutdown: threading.Event, name: WorkerName) -> None:
        self.slot = slot
        self.shutdown = shutdown
        self.name = name

    def engine_pid(self) -> int:
        assert self.slot.ready is not None
        return self.slot.ready.pid


class House:
    def __init__(self, context: Context, folder: Path) -> None:
        self.context = context
        self.worker_context = context
        """What workers in threads use; a test may put a faulty database in."""
        self.folder = folder
        self.script_path = folder / "script.json"
        self.engine_command = (sys.executable, str(SCRIPTED_ENGINE), str(self.script_path))
        self.script()
        with self.services() as services:
            secret = services.identity.first_key()
            self.caller: Caller = services.identity.authenticate(secret)
        self.register_base("tiny", {"model.safetensors": "0" * 64})

    @contextmanager
    def services(self) -> Iterator[Services]:
        with self.context.database.unit_of_work() as work:
            yield Services(self.context, work)

    def register_base(self, base_id: str, files: dict[str, str], context_length: int = 256) -> None:
        found = BaseFolder(
            files=files,
            architecture="llama",
            context_length=context_length,
            parameters=1000,
            has_chat_template=True,
        )
        # A worker claims jobs of those bases only that lie on its disk.
        (self.context.settings.bases_dir / base_id).mkdir(exist_ok=True)
        with self.services() as services:
            services.bases.register("system", base_id, found, licence="Apache-2.0", source="test")

    def script(self, *faults: dict, step_seconds: float = 0.005, checkpoint_every: int = 2, **more: int) -> None:
        """What engines do from now on."""
        settings = {"faults": faults, "step_seconds": step_seconds, "checkpoint_every": checkpoint_every, **more}
        text = json.dumps(settings)
        incoming = self.script_path.with_suffix(".new")
        incoming.write_text(text)
        incoming.replace(self.script_path)
        for counter in self.script_path.parent.glob(f"{self.script_path.name}.[0-9]*"):
            counter.unlink()

    def release_hold(self) -> None:
        """Let an engine in `hold_until_released` go on."""
        Path(f"{self.script_path}.released").touch()

    def reached(self, phase: str) -> bool:
        return Path(f"{self.script_path}.reached-{phase}").exists()

    def submit(self, **of_job: Any) -> str:
        """A job whose files are inspected: it waits in the queue."""
        job_id = self.create(**of_job)
        self.inspect(job_id)
        return job_id

    def inspect(self, job_id: str) -> None:
        inspect_round(self.context, WorkerName("cpu0", HOST), threading.Event())
        assert self.job(job_id).spec is not None, self.events(job_id)

    def create(self, *, rows: int = 20, epochs: int = 2, batch_size: int = 4, base: str = "tiny", lines=None) -> str:
        """A job whose files nobody has inspected yet, so that no worker can take it."""
        lines = lines or [
            {
                "messages": [
                    {"role": "user", "content": f"question {number} of the test"},
                    {"role": "assistant", "content": "billing" if number % 2 else "delivery"},
                ]
            }
            for number in range(rows)
        ]
        data = "".join(json.dumps(line) + "\n" for line in lines).encode()
        with self.services() as services:
            file = services.files.create_from_stream(
                self.caller.team_id, self.caller.actor, iter([data]), filename="rows.jsonl", purpose="fine-tune"
            )
        with self.services() as services:
            body = JobCreate.model_validate(
                {
                    "model": base,
                    "training_file": file.id,
                    "seed": 7,
                    "method": {
                        "type": "supervised",
                        "supervised": {"hyperparameters": {"n_epochs": epochs, "batch_size": batch_size}},
                    },
                }
            )
            return services.jobs.submit(self.caller, body).id

    def cancel(self, job_id: str) -> None:
        with self.services() as services:
            services.jobs.cancel(self.caller, job_id)

    def pause(self, job_id: str) -> None:
        with self.services() as services:
            services.jobs.pause(self.caller, job_id)

    def resume(self, job_id: str) -> None:
        with self.services() as services:
            services.jobs.resume(self.caller, job_id)

    def tick(self) -> None:
        ControlRounds(self.context).run()

    def job(self, job_id: str) -> Job:
        with self.context.database.unit_of_work() as work:
            job = work.session.get(Job, job_id)
            assert job is not None
            return job

    def events(self, job_id: str) -> list[str]:
        with self.context.database.unit_of_work() as work:
            return list(
                work.session.scalars(
                    select(JobEvent.message).where(JobEvent.job_id == job_id).order_by(JobEvent.sequence)
                )
            )

    def metrics(self, job_id: str) -> dict[int, float]:
        """Step → training loss."""
        with self.context.database.unit_of_work() as work:
            rows = work.session.scalars(select(JobMetric).where(JobMetric.job_id == job_id).order_by(JobMetric.step))
            return {row.step: row.figures["train_loss"] for row in rows}

    def checkpoints(self, job_id: str) -> dict[int, str]:
        """Step → model name."""
        with self.context.database.unit_of_work() as work:
            rows = work.session.scalars(select(CheckpointRow).where(CheckpointRow.job_id == job_id))
            return {row.step: row.model_id for row in rows}

    def models(self, job_id: str) -> dict[str, TunedModel]:
        with self.context.database.unit_of_work() as work:
            rows = work.session.scalars(select(TunedModel).where(TunedModel.job_id == job_id))
            return {row.id: row for row in rows}

    def unbroken_adapter_sha256(self, job_id: str, *, seed: int = 7) -> str:
        """What the scripted engine's chain gives when no step is left out or done twice."""
        chain = ""
        for step in range(1, max(self.metrics(job_id)) + 1):
            chain = hashlib.sha256(f"{chain}{seed}{step}".encode()).hexdigest()
        return hashlib.sha256(chain.encode()).hexdigest()

    def adapter_sha256(self, job_id: str) -> str:
        """Of the final adapter."""
        model_id = self.job(job_id).tuned_model_id
        assert model_id is not None
        return self.models(job_id)[model_id].adapter_sha256

    def wait_until(self, condition: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
            threading.Event().wait(0.02)

    def wait_for_status(self, job_id: str, status: str, seconds: float = 30.0) -> Job:
        """Until the job has the status and nobody holds it. Pauses before another attempt are cut short."""

        def is_there() -> bool:
            job = self.job(job_id)
            if job.not_before is not None:
                self._skip_back_off(job_id)
            return job.status == status and job.owner is None

        try:
            self.wait_until(is_there, f"job {status}", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; it is {self.job(job_id).status}: {self.events(job_id)}") from None
        return self.job(job_id)

    def _skip_back_off(self, job_id: str) -> None:
        with self.context.database.unit_of_work() as work:
            job = work.session.get(Job, job_id)
            assert job is not None
            job.not_before = None

    @contextmanager
    def gpu_worker(
        self, name: str = "gpu0", *, patience: Patience | None = None, incarnation: str | None = None
    ) -> Iterator[GpuWorker]:
        """Runs rounds until the block ends."""
        shutdown = threading.Event()
        worker_name = WorkerName(name, HOST, incarnation) if incarnation else WorkerName(name, HOST)
        folder = self.folder / "scratch" / name
        slot = EngineSlot(self.engine_command, engine_environment(os.environ, threads=1), folder / "engine", shutdown)

        def work() -> None:
            train_round(
                self.worker_context,
                worker_name,
                slot,
                root=folder / "jobs",
                shutdown=shutdown,
                patience=patience or Patience(),
                look_seconds=0.1,
            )

        with ExitStack() as stack:
            stack.callback(slot.close)
            stack.enter_context(Presence(self.worker_context, worker_name, slot))
            stack.enter_context(Rounds(work, period_seconds=0.1, shutdown=shutdown))
            yield GpuWorker(slot, shutdown, worker_name)

    def start_worker(
        self,
        role: str,
        name: str,
        changed: Mapping[str, object] = MappingProxyType({}),
        *,
        real_engine: bool = False,
        look_seconds: float = LOOK_SECONDS,
        variables: Mapping[str, str] = MappingProxyType({}),
        output: IO[bytes] | None = None,
        within: Sequence[str] = (),
    ) -> subprocess.Popen[bytes]:
        """A worker as production runs it, with some settings `changed`; the caller ends it.

        `within` is a command that runs the rest of its line somewhere else.
        """
        settings = self.context.settings.model_copy(update=dict(changed))
        environment = {**os.environ, **to_environment(settings), "PYTHONPATH": str(REPOSITORY), **variables}
        command = [*within, sys.executable, "-m", "tests.support.worker_process", role, name, str(look_seconds)]
        if not real_engine:
            command += self.engine_command
        return subprocess.Popen(command, env=environment, cwd=self.folder, stdout=output, stderr=output)

    @contextmanager
    def worker_process(
        self,
        role: str,
        name: str,
        *,
        redis_url: str | None = None,
        real_engine: bool = False,
        look_seconds: float = LOOK_SECONDS,
    ) -> Iterator[subprocess.Popen[bytes]]:
        """A worker as production runs it, killed at the end of the block."""
        changed = {} if redis_url is None else {"redis_url": SecretStr(redis_url)}
        process = self.start_worker(role, name, changed, real_engine=real_engine, look_seconds=look_seconds)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


@pytest.fixture
def house(settings: Settings, tmp_path: Path) -> Iterator[House]:
    # One job at a time: what several do together has tests of its own.
    changed = {"heartbeat_seconds": 0.2, "lease_seconds": 6, "seats_per_worker": 1}
    context = open_context(settings.model_copy(update=changed))
    # The test's own process may stand still for seconds on a busy machine; only workers answer for a lease.
    context.database.close()
    patient = Database(settings.database_url.get_secret_value(), context.broker)
    yield House(replace(context, database=patient), tmp_path)
    patient.close()
    context.close()
