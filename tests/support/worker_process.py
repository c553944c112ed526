"""`python -m tests.support.worker_process ROLE NAME LOOK_SECONDS [ENGINE COMMAND …]`: a real worker."""

import sys

from app import logs
from app.contracts.tasks import Queue
from app.settings import load_settings
from workers.run import run_worker
from workers.supervisor.engine_process import ENGINE_COMMAND
from workers.supervisor.identity import WorkerName

if __name__ == "__main__":
    role, name, look_seconds, *command = sys.argv[1:]
    logs.configure(f"worker {name}")
    sys.exit(
        run_worker(
            load_settings(),
            Queue(role),
            WorkerName(name, "test-host"),
            engine_command=command or ENGINE_COMMAND,
            look_seconds=float(look_seconds),
        )
    )
