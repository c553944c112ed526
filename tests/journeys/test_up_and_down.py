"""`tunesmith up` ends clean, dies without orphans, and goes on where it stopped."""

import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from app.cli.errors import CommandError
from tests.support.running_service import running_service

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def folder():
    root = Path(tempfile.mkdtemp(prefix="tsm-"))
    yield root / "data"
    shutil.rmtree(root)


def test_a_signal_stops_everything_and_the_next_start_knows_the_same_key(folder):
    with running_service(folder) as service:
        key = service.client.connection.api_key
        assert len(service.processes()) >= 7
        assert folder.stat().st_mode & 0o077 == 0
        second = subprocess.run(
            [sys.executable, "-m", "app.cli.main", "up", "--data-dir", folder, "--port", "0"],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert second.returncode == 1
        assert f"process {service.process.pid}" in second.stderr
        assert (folder / "ready.json").exists()
        assert service.stop() == 0
        assert service.survivors() == []
    assert not (folder / "ready.json").exists()

    with running_service(folder) as service:
        assert service.client.connection.api_key == key
        assert service.client.get("/v1/files")["data"] == []


def test_killing_it_outright_leaves_no_orphan_and_the_next_start_recovers(folder):
    with running_service(folder) as service:
        service.processes()
        service.process.send_signal(signal.SIGKILL)
        service.process.wait()
        assert service.survivors() == []

    with running_service(folder) as service:
        assert service.client.is_ready()


def test_a_part_that_is_killed_is_started_again(folder):
    with running_service(folder) as service:
        for words in (("postgres", "-D"), ("redis-server",), ("uvicorn",)):
            victim = service.find(*words)
            victim.kill()
            victim.wait(timeout=10)
            _wait_for(service, words)
        _wait_for(service, ("uvicorn",))
        assert _answers(service)


def _wait_for(service, words):
    for _ in range(400):
        if any(all(word in " ".join(p.cmdline()) for word in words) for p in service.processes()):
            return
        try:
            service.process.wait(timeout=0.05)
        except subprocess.TimeoutExpired:
            continue
    raise AssertionError(f"{words} did not come back")


def _answers(service):
    """True once the API works with its database again."""
    for _ in range(400):
        try:
            service.client.get("/v1/files")
        except CommandError:
            try:
                service.process.wait(timeout=0.1)
            except subprocess.TimeoutExpired:
                continue
        else:
            return True
    return False
