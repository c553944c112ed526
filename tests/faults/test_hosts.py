"""Two hosts with addresses of their own (network namespaces), one Postgres, one Redis, one S3: a link is cut."""

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack

import boto3
import pytest
from moto.server import ThreadedMotoServer
from pydantic import SecretStr

from tests.faults import history
from tests.faults.world import LEASE_SECONDS, World
from tests.support.tcp_door import TcpDoor

_NETWORK = "10.211.7"


def ip(*words: str) -> None:
    subprocess.run(["/sbin/ip", *words], check=True, capture_output=True)


def can_make_hosts() -> bool:
    try:
        ip("netns", "add", "tsm-try")
        ip("netns", "del", "tsm-try")
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


class Host:
    """A network namespace on our bridge."""

    def __init__(self, number: int, stack: ExitStack) -> None:
        self.name, self.link = f"tsm-host{number}", f"tsm-link{number}"
        ip("netns", "add", self.name)
        stack.callback(ip, "netns", "del", self.name)
        ip("link", "add", self.link, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        ip("link", "set", self.link, "master", "tsm-bridge", "up")
        ip("-n", self.name, "addr", "add", f"{_NETWORK}.{10 + number}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            ip("-n", self.name, "link", "set", device, "up")

    def cut(self) -> None:
        ip("link", "set", self.link, "down")

    def mend(self) -> None:
        ip("link", "set", self.link, "up")


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def hosts(stack: ExitStack) -> list[Host]:
    if not can_make_hosts():
        pytest.skip("this machine lets us make no network namespaces; they need root and the command `ip`")
    ip("link", "add", "tsm-bridge", "type", "bridge")
    stack.callback(ip, "link", "del", "tsm-bridge")
    ip("addr", "add", f"{_NETWORK}.1/24", "dev", "tsm-bridge")
    ip("link", "set", "tsm-bridge", "up")
    return [Host(number, stack) for number in range(2)]


@pytest.fixture
def store(hosts: list[Host], stack: ExitStack, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """An S3 that both hosts reach, as settings."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    server = ThreadedMotoServer(f"{_NETWORK}.1", 0, verbose=False)
    server.start()
    stack.callback(server.stop)
    address, port = server.get_host_and_port()
    endpoint = f"http://{address}:{port}"
    boto3.client("s3", endpoint_url=endpoint).create_bucket(Bucket="tunesmith")
    return {"artifacts_url": "s3://tunesmith/house", "s3_endpoint_url": endpoint}


@pytest.fixture
def world(store: dict[str, str], stack: ExitStack) -> World:
    # One job at a time, so that what a host holds is one job.
    return stack.enter_context(World(1, workers=0, changed={**store, "seats_per_worker": 1}))


def start_worker(world: World, host: Host, number: int, stack: ExitStack) -> None:
    """On its host, by addresses of the network alone."""
    database = TcpDoor(f"{_NETWORK}.1", world.folder / "run" / ".s.PGSQL.5432")
    redis = TcpDoor(f"{_NETWORK}.1", world.folder / "run" / "redis.sock")
    stack.callback(database.close)
    stack.callback(redis.close)
    name = f"gpu{number}"
    options = f"options=-c%20tunesmith.writer%3D{name}"
    changed = {
        "database_url": SecretStr(f"postgresql://postgres@{_NETWORK}.1:{database.port}/tunesmith?{options}"),
        "redis_url": SecretStr(f"redis://{_NETWORK}.1:{redis.port}/0"),
        "scratch_dir": world.folder / "scratch" / host.name,
    }
    within = ("/sbin/ip", "netns", "exec", host.name)
    world.workers[name] = world.house.start_worker(
        "gpu", name, changed, look_seconds=0.3, within=within, output=world.log
    )


@pytest.mark.slow
def test_a_host_cut_off_for_longer_than_a_lease_costs_no_job_and_none_is_done_twice(
    world: World, hosts: list[Host], stack: ExitStack
) -> None:
    world.house.script(step_seconds=0.2)
    for number, host in enumerate(hosts):
        start_worker(world, host, number, stack)
    for _ in range(4):
        world.submit()
    world.house.wait_until(lambda: {one.worker for one in world.held()} == {"gpu0", "gpu1"}, "both hosts train", 60)
    (cut_off,) = [one for one in world.held() if one.worker == "gpu0"]
    hosts[0].cut()
    world.house.wait_until(lambda: cut_off not in world.held(), "its lease ends", 3 * LEASE_SECONDS)
    world.house.wait_until(
        lambda: (
            cut_off.job_id in {one.job_id for one in world.held() if one.worker == "gpu1"}
            or world.house.job(cut_off.job_id).status == "succeeded"
        ),
        "the other host goes on with it",
        60,
    )
    hosts[0].mend()
    for _ in range(3):
        world.submit()
    world.house.wait_until(lambda: "gpu0" in {one.worker for one in world.held()}, "the host works again", 60)
    assert world.lost() == []
    assert history.faults(history.read(world.postgres.url())) == []
