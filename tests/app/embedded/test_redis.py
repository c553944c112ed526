"""The embedded Redis serves Celery on a private socket and keeps nothing."""

import shutil
import tempfile
from pathlib import Path

import psutil
import pytest

from app.broker import CeleryBroker
from app.contracts.tasks import Queue
from app.embedded.redis import EmbeddedRedis


@pytest.fixture
def broker():
    folder = Path(tempfile.mkdtemp(prefix="tsm-"))
    yield EmbeddedRedis(folder, log_file=folder / "log")
    shutil.rmtree(folder)


def test_the_bell_can_be_rung_on_it(broker):
    process = broker.spawn()
    broker.wait_ready(process)
    bell = CeleryBroker(broker.url)
    bell.ring(Queue.GPU)
    client = broker.connect()
    assert client.llen("gpu") == 1
    client.close()
    bell.close()
    broker.stop(process)


def test_it_listens_on_no_network_interface_and_never_evicts(broker):
    process = broker.spawn()
    broker.wait_ready(process)
    client = broker.connect()
    policy = client.config_get("maxmemory-policy")["maxmemory-policy"]
    client.close()
    kinds = {c.family.name for c in psutil.Process(process.pid).net_connections(kind="all")}
    broker.stop(process)
    assert policy == "noeviction"
    assert kinds <= {"AF_UNIX"}


def test_a_socket_left_by_a_killed_run_is_replaced_and_nothing_is_kept(broker):
    process = broker.spawn()
    broker.wait_ready(process)
    client = broker.connect()
    client.set("a", "b")
    client.close()
    process.kill()
    process.wait()

    process = broker.spawn()
    broker.wait_ready(process)
    client = broker.connect()
    assert client.get("a") is None
    client.close()
    broker.stop(process)
