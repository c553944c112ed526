"""G23: the release before goes on working while the database is brought to this one, and beside its API afterwards.

The code of the last release is taken from git (`migrations/released.py`) and runs as its own processes: API, workers.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import threading
import time
from contextlib import ExitStack, contextmanager
from io import BytesIO
from pathlib import Path

import httpx
import psycopg
import pytest

from app.db import migrate
from migrations import released
from tests.app.db.test_migrate import empty_database_url  # noqa: F401 - a fixture
from tests.support.job_world import chat_rows

ROOT = Path(__file__).parents[2]
HERE = "127.0.0.1"
SEED = """
import json, sys
from pathlib import Path
from app.bases.folder import BaseFolder
from app.context import open_context
from app.factory import Services
from app.settings import load_settings
context = open_context(load_settings())
(context.settings.bases_dir / "tiny").mkdir()
found = BaseFolder(files={"model.safetensors": "0" * 64}, architecture="llama", context_length=256, parameters=1000,
                   has_chat_template=True)
with context.database.unit_of_work() as work:
    services = Services(context, work)
    key = services.identity.first_key()
    services.bases.register("system", "tiny", found, licence="MIT", source="test")
print(json.dumps(key))
"""


@pytest.fixture(scope="module")
def last_release(tmp_path_factory):
    """The folder with the code of the last release."""
    git = shutil.which("git")
    if git is None:
        pytest.skip("there is no git here to take the last release's code from")
    archive = subprocess.run(
        [git, "archive", released.COMMIT, "app", "workers", "migrations", "tests"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if archive.returncode:
        pytest.skip(f"the last release's code is not in this copy's history: {archive.stderr.decode().strip()}")
    folder = tmp_path_factory.mktemp("release")
    with tarfile.open(fileobj=BytesIO(archive.stdout)) as tar:
        tar.extractall(folder, filter="data")
    return folder


class Installation:
    """One database, one store, and processes of either release over them."""

    def __init__(self, stack, database_url, redis_url, folder):
        self.stack, self.folder, self.database_url = stack, folder, database_url
        self.variables = {
            "TUNESMITH_DATABASE_URL": database_url,
            "TUNESMITH_REDIS_URL": redis_url,
            "TUNESMITH_ARTIFACTS_URL": (folder / "artifacts").as_uri(),
            "TUNESMITH_BASES_DIR": str(folder / "bases"),
            "TUNESMITH_SCRATCH_DIR": str(folder / "scratch"),
            "TUNESMITH_LEASE_SECONDS": "20",
            "TUNESMITH_HEARTBEAT_SECONDS": "0.2",
            "TUNESMITH_TICK_SECONDS": "0.3",
        }
        for name in ("artifacts", "bases", "scratch"):
            (folder / name).mkdir()
        self.script = folder / "script.json"
        self.logs = {}

    def environment(self, code):
        outside = {name: value for name, value in os.environ.items() if not name.startswith("TUNESMITH_")}
        return {**outside, **self.variables, "PYTHONPATH": str(code)}

    def hold(self, kind, *, step):
        """Engines stop once at this step, until they are told."""
        fault = {"phase": "train", "step": step, "kind": kind, "times": 1}
        self.script.write_text(json.dumps({"faults": [fault]}))

    def seed(self, code):
        """A team, a base, and the operator's key."""
        done = subprocess.run(
            [sys.executable, "-c", SEED], env=self.environment(code), cwd=self.folder, capture_output=True, check=True
        )
        return json.loads(done.stdout)

    def start(self, code, name, *command):
        """A process that is killed at the end of the test."""
        log = self.stack.enter_context((self.folder / f"{name}.log").open("wb"))
        process = subprocess.Popen(
            [sys.executable, *command], env=self.environment(code), cwd=self.folder, stdout=log, stderr=log
        )
        self.stack.callback(process.wait)
        self.stack.callback(process.kill)
        return process

    def start_worker(self, code, role, name):
        engine = [sys.executable, str(code / "tests" / "support" / "scripted_engine.py"), str(self.script)]
        return self.start(code, name, "-m", "tests.support.worker_process", role, name, "0.2", *engine)

    def start_api(self, code, name, key):
        """A client of a fresh API process."""
        with socket.socket() as probe:
            probe.bind((HERE, 0))
            port = probe.getsockname()[1]
        command = ("-m", "uvicorn", "--factory", "app.main:build", "--host", HERE, "--port", str(port))
        process = self.start(code, name, *command)
        client = self.stack.enter_context(
            httpx.Client(
                base_url=f"http://{HERE}:{port}",
                headers={"Authorization": f"Bearer {key}"},
                transport=httpx.HTTPTransport(retries=0),
                timeout=30,
                trust_env=False,
            )
        )
        wait_until(lambda: answers(client, process), f"{name} answers")
        return client

    def submit(self, client):
        file = client.post(
            "/v1/files", data={"purpose": "fine-tune"}, files={"file": ("rows.jsonl", chat_rows(20))}
        ).json()
        body = {
            "model": "tiny",
            "training_file": file["id"],
            "seed": 7,
            "method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2, "batch_size": 4}}},
        }
        made = client.post("/v1/fine_tuning/jobs", json=body)
        assert made.status_code == 200, made.text
        return made.json()["id"]


def answers(client, process):
    assert process.poll() is None, "the API ended at its start"
    try:
        return client.get("/health/ready").status_code == 200
    except httpx.TransportError:
        return False


def wait_until(is_so, what, seconds=60):
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.05)


def succeeded(client, job_id):
    answer = client.get(f"/v1/fine_tuning/jobs/{job_id}")
    assert answer.status_code == 200, answer.text
    job = answer.json()
    assert job["status"] in {"validating_files", "queued", "running", "succeeded"}, job
    return job["status"] == "succeeded"


@contextmanager
def asking(client, key_path):
    """Asks the API again and again in a thread; the answers that were no success, and the longest wait in seconds."""
    over, bad, longest = threading.Event(), [], [0.0]

    def ask():
        while not over.wait(0.02):
            began = time.monotonic()
            answer = client.get(key_path)
            longest[0] = max(longest[0], time.monotonic() - began)
            if answer.status_code != 200:
                bad.append(answer.text)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield bad, longest
    finally:
        over.set()
        thread.join()


@pytest.fixture
def installation(empty_database_url, servers, tmp_path):  # noqa: F811
    with ExitStack() as stack:
        yield Installation(stack, empty_database_url, servers.redis_url, tmp_path)


@pytest.mark.slow
def test_a_job_runs_through_an_upgrade_and_old_workers_serve_the_new_api(installation, last_release):
    migrate.upgrade(installation.database_url, released.REVISION)
    installation.hold("hold_until_released", step=3)
    key = installation.seed(last_release)
    for role in ("gpu", "cpu", "control"):
        installation.start_worker(last_release, role, f"{role}0")
    old_api = installation.start_api(last_release, "old-api", key)
    job_id = installation.submit(old_api)
    reached = installation.folder / "script.json.reached-train"
    wait_until(reached.exists, "the job trains")

    with asking(old_api, f"/v1/fine_tuning/jobs/{job_id}") as (bad, longest):
        migrate.upgrade(installation.database_url)
    assert bad == []
    assert longest[0] < migrate.LOCK_SECONDS + 1

    (installation.folder / "script.json.released").touch()
    wait_until(lambda: succeeded(old_api, job_id), "the job that ran through the upgrade ends well")
    assert old_api.get(f"/v1/fine_tuning/jobs/{job_id}").json()["trained_tokens"] is not None

    # The old API goes on beside the new one, and old workers do what the new one asks for.
    new_api = installation.start_api(ROOT, "new-api", key)
    jobs = [installation.submit(new_api), installation.submit(old_api)]
    for job in jobs:
        wait_until(lambda job=job: succeeded(new_api, job), "old workers train for both APIs")
    assert new_api.get("/v1/organization/audit_logs/verify").json()["is_unbroken"]
    with psycopg.connect(installation.database_url) as connection:
        lost = connection.execute("SELECT sum(losses), sum(attempts) FROM jobs").fetchone()
    assert lost == (0, 0)


@pytest.mark.slow
def test_a_job_that_an_old_worker_lets_go_is_finished_by_a_new_one(installation, last_release):
    migrate.upgrade(installation.database_url, released.REVISION)
    installation.hold("hold", step=5)
    key = installation.seed(last_release)
    old_worker = installation.start_worker(last_release, "gpu", "gpu0")
    installation.start_worker(last_release, "cpu", "cpu0")
    old_api = installation.start_api(last_release, "old-api", key)
    job_id = installation.submit(old_api)
    wait_until((installation.folder / "script.json.reached-train").exists, "the job trains")
    migrate.upgrade(installation.database_url)
    old_worker.terminate()
    assert old_worker.wait(30) == 0
    for role in ("gpu", "control"):
        installation.start_worker(ROOT, role, f"new-{role}")
    wait_until(lambda: succeeded(old_api, job_id), "the new worker goes on from the checkpoint")
    events = old_api.get(f"/v1/fine_tuning/jobs/{job_id}/events?limit=100").json()["data"]
    assert any(event["message"].startswith("Resuming from the checkpoint") for event in events)
