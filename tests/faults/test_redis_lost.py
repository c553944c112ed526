import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.broker import CeleryBroker
from app.contracts.tasks import Queue
from app.embedded.redis import EmbeddedRedis
from app.embedded.sockets import private_socket_folder
from tests.support.house import House

ONLY_BELLS = 3600.0  # a worker that does not look by itself hears bells or nothing


class LostRedis:
    """A Redis of its own that can be killed and comes back empty."""

    def __init__(self, folder: Path) -> None:
        self._redis = EmbeddedRedis(private_socket_folder(folder / "own"), log_file=folder / "own-redis.log")
        self._process: subprocess.Popen[bytes] | None = None
        self.url = self._redis.url

    def start(self) -> None:
        self._process = self._redis.spawn()
        self._redis.wait_ready(self._process)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def flush(self) -> None:
        client = self._redis.connect()
        client.flushall()
        client.close()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[LostRedis]:
    redis = LostRedis(tmp_path)
    redis.start()
    yield redis
    redis.kill()


def ring(house: House, url: str) -> None:
    broker = CeleryBroker(url)
    broker.ring(Queue.GPU)
    broker.close()


@pytest.mark.slow
def test_a_running_job_and_its_worker_survive_the_loss_of_redis(house: House, redis: LostRedis) -> None:
    house.script({"phase": "train", "step": 3, "kind": "hold_until_released", "times": 1})
    job_id = house.submit()
    with house.worker_process("gpu", "gpu0", redis_url=redis.url, look_seconds=ONLY_BELLS) as process:
        house.wait_until(lambda: house.reached("train"), "step 3")
        redis.kill()
        house.release_hold()
        job = house.wait_for_status(job_id, "succeeded")
        assert job.attempts == 0
        assert house.adapter_sha256(job_id) == house.unbroken_adapter_sha256(job_id)
        redis.start()
        second = house.submit()
        ring(house, redis.url)
        house.wait_for_status(second, "succeeded")
        assert process.poll() is None


@pytest.mark.slow
def test_work_is_found_without_any_bell(house: House, redis: LostRedis) -> None:
    with house.worker_process("gpu", "gpu0", redis_url=redis.url, look_seconds=0.5):
        house.wait_for_status(house.submit(), "succeeded")
        redis.kill()
        house.wait_for_status(house.submit(), "succeeded")
        redis.start()


@pytest.mark.slow
def test_bells_are_heard_after_redis_was_emptied_in_passing(house: House, redis: LostRedis) -> None:
    first = house.submit()
    with house.worker_process("gpu", "gpu0", redis_url=redis.url, look_seconds=ONLY_BELLS):
        house.wait_for_status(first, "succeeded")
        redis.flush()
        second = house.submit()
        ring(house, redis.url)
        house.wait_for_status(second, "succeeded")


@pytest.mark.slow
def test_a_job_can_be_cancelled_while_redis_is_away(house: House, redis: LostRedis) -> None:
    house.script({"phase": "train", "step": 5, "kind": "hold", "times": 1})
    job_id = house.submit()
    with house.worker_process("gpu", "gpu0", redis_url=redis.url):
        house.wait_until(lambda: house.reached("train"), "step 5")
        redis.kill()
        house.cancel(job_id)
        house.wait_for_status(job_id, "cancelled", 10)
        redis.start()


@pytest.mark.slow
def test_a_worker_started_without_redis_works_and_leaves_on_sigterm(house: House, redis: LostRedis) -> None:
    redis.kill()
    job_id = house.submit()
    with house.worker_process("gpu", "gpu0", redis_url=redis.url) as process:
        house.wait_for_status(job_id, "succeeded")
        process.terminate()
        assert process.wait(timeout=30) == 0
    redis.start()
