"""`tunesmith up` as a child process of a test, with what the journeys do to it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from app.cli.client import Client, Connection
from app.cli.job_feed import follow

_ROOT = Path(__file__).resolve().parents[2]
_QUICK = {
    "TUNESMITH_LEASE_SECONDS": "5",
    "TUNESMITH_HEARTBEAT_SECONDS": "0.5",
    "TUNESMITH_TICK_SECONDS": "0.5",
    "TUNESMITH_ENGINE_THREADS": "1",
}


class RunningService:
    """A started service. `parts` of it can be killed by name."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self.process = process
        self.folder = folder
        self.everything: list[psutil.Process] = []
        ready = json.loads((folder / "ready.json").read_text())
        self.client = Client(Connection(ready["base_url"], ready["api_key"]))

    def find(self, *words: str) -> psutil.Process:
        """The newest living process below `up` whose command line has all the words."""
        found = [p for p in self.processes() if all(word in " ".join(p.cmdline()) for word in words)]
        return max(found, key=lambda process: process.create_time())

    def engine(self) -> psutil.Process:
        """The training engine, the supervisor's only child."""
        return self.find("--role", "gpu").children()[0]

    def processes(self) -> list[psutil.Process]:
        below = psutil.Process(self.process.pid).children(recursive=True)
        alive = [process for process in below if process.status() != psutil.STATUS_ZOMBIE]
        self.everything = [*{*self.everything, *alive}]
        return alive

    def survivors(self, seconds: float = 30) -> list[str]:
        """What of all that was ever seen still runs after at most `seconds`."""
        gone_or_not = [p for p in self.everything if p.is_running()]
        for process in gone_or_not:
            _wait_end(process, seconds)
        return [" ".join(p.cmdline()) for p in self.everything if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]

    def run_to_end(self, job_id: str, at_step: int | None = None, do: Callable[[], None] | None = None) -> Any:
        """Follow the job; `do` happens once, when `at_step` is reached. The ended job."""
        job: dict[str, Any] = {}
        for kind, value in follow(self.client, job_id):
            if kind == "job":
                job = value
            elif do is not None and value["type"] == "metrics" and value["data"]["step"] >= (at_step or 1):
                do()
                do = None
        assert do is None, "the job ended before it could be disturbed"
        return job

    def run_until(self, job_id: str, step: int) -> None:
        """Follow the job until this step is done."""
        for kind, value in follow(self.client, job_id):
            if kind == "event" and value["type"] == "metrics" and value["data"]["step"] >= step:
                return
        raise AssertionError("the job ended before that step")

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        self.processes()
        self.client.close()
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=90)


@contextmanager
def running_service(folder: Path) -> Iterator[RunningService]:
    """Start on `folder`; stopped at the end if the test has not done so."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TUNESMITH_")}
    environment |= {**_QUICK, "PYTHONPATH": str(_ROOT), "PYTHONWARNINGS": "default"}
    command = [sys.executable, "-m", "app.cli.main", "up", "--data-dir", str(folder), "--port", "0"]
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True
    )
    service: RunningService | None = None
    try:
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if "Ctrl-C stops everything" in line:
                break
        else:
            raise AssertionError("`tunesmith up` did not start:\n" + "".join(said))
        service = RunningService(process, folder)
        yield service
    finally:
        if service is not None:
            service.client.close()
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=90)
            except subprocess.TimeoutExpired:
                process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _wait_end(process: psutil.Process, seconds: float) -> None:
    """Return once the process has ended (an orphan may stay a zombie) or the time is over."""
    for _ in range(int(seconds / 0.05)):
        try:
            if process.status() == psutil.STATUS_ZOMBIE:
                return
            process.wait(timeout=0.05)
        except psutil.NoSuchProcess:
            return
        except psutil.TimeoutExpired:
            continue
        else:
            return
