"""A service for the length of one command: the running one if there is one, else `tunesmith up` as our child."""

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.cli.client import Client, Connection
from app.cli.errors import CommandError
from app.cli.session import Session
from app.embedded.bound_process import start_bound, stop
from app.embedded.data_folder import DataFolder

_START_SECONDS = 240.0


@contextmanager
def service(session: Session) -> Iterator[tuple[Client, bool]]:
    """A client of a service that answers, and whether we started it. Ours is stopped at the end."""
    running = _running(session)
    if running is not None:
        with running:
            yield running, False
        return
    folder = DataFolder(session.data_dir.resolve())
    folder.create()
    log_file = folder.log_file("up")
    command = [sys.executable, "-P", "-m", "app.cli.main", "up", "--data-dir", str(folder.root), "--port", "0"]
    with log_file.open("ab") as log:
        process = start_bound(command, output=log, environment=_environment(), death_signal=signal.SIGTERM)
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not folder.ready_file.exists():
            if process.poll() is not None:
                raise CommandError(f"The service could not start: {_last_line(log_file)} Its log: {log_file}")
            if time.monotonic() > deadline:
                raise CommandError(f"The service did not start within {_START_SECONDS:.0f} s. Its log: {log_file}")
            time.sleep(0.1)
        ready = json.loads(folder.ready_file.read_text())
        with Client(Connection(ready["base_url"], ready["api_key"])) as client:
            yield client, True
    finally:
        stop(process, signal.SIGTERM, seconds=90)


def _running(session: Session) -> Client | None:
    """A client of the service that the options name; None if none is named or the local one is not there."""
    try:
        client = session.client()
    except CommandError:
        if session.base_url is not None:
            raise
        return None
    if client.is_ready():
        return client
    client.close()
    if session.base_url is not None:
        raise CommandError(f"No service answers at {session.base_url}.")
    return None


def _environment() -> dict[str, str]:
    """Ours, so that this very tree is imported from any working folder."""
    root = str(Path(__file__).resolve().parents[2])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))}


def _last_line(log_file: Path) -> str:
    lines = log_file.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""
