"""A stream cut anywhere goes on from Last-Event-ID: no event is lost, and none comes twice."""

import random
import threading

import httpx
import pytest
from sqlalchemy import select

from app.db.tables import JobEvent
from tests.support.job_world import clients_world, metric


@pytest.fixture
def world(services, api_key):
    return clients_world(services, api_key)


class Follower:
    """A client that keeps what whole frames told it, as the specification of server-sent events wants."""

    def __init__(self, url, api_key):
        self.url = url
        self.headers = {"Authorization": f"Bearer {api_key}"}
        self.last_id = None
        self.sequences = []
        self.messages = []
        self.statuses = []
        self.cuts = 0

    def read(self, most_bytes):
        """Read so many bytes at most, then hang up; True if the stream ended by itself."""
        headers = {**self.headers, **({} if self.last_id is None else {"Last-Event-ID": self.last_id})}
        buffer = b""
        with httpx.stream("GET", self.url, headers=headers, timeout=30, trust_env=False) as response:
            assert response.status_code == 200
            left = most_bytes
            for chunk in response.iter_raw():
                buffer += chunk[:left]
                left -= len(chunk[:left])
                *frames, buffer = buffer.split(b"\n\n")
                for frame in frames:
                    self.take(frame.decode())
                if left == 0:
                    self.cuts += 1
                    return False
        assert buffer == b"", "the stream ended in the middle of a frame"
        return True

    def take(self, frame):
        fields = dict(line.split(": ", 1) for line in frame.split("\n") if not line.startswith(":"))
        if fields.get("event") == "status":
            self.statuses.append(fields["data"])
        elif fields:
            self.last_id = fields["id"]
            self.sequences.append(int(fields["id"]))
            self.messages.append(fields["data"])


def events_of(world, job_id):
    with world.services() as s:
        return list(
            s.work.session.scalars(
                select(JobEvent.sequence).where(JobEvent.job_id == job_id).order_by(JobEvent.sequence)
            )
        )


def work_through(world, task, chance):
    """What a worker writes: metrics and messages, in transactions of different sizes."""
    step = 0
    while step < 60:
        with world.services() as s:
            for _ in range(chance.randint(1, 4)):
                step += 1
                s.job_worker.record_metrics(task.job_id, task.fence, [metric(step, total_steps=70)])
            if chance.random() < 0.4:
                s.job_worker.record_event(task.job_id, task.fence, f"after step {step}: " + "ä\n\n: x" * 20)
    with world.services() as s:
        s.jobs.cancel(world.team, task.job_id)
    with world.services() as s:
        s.job_worker.release(task.job_id, task.fence)


@pytest.mark.parametrize("seed", range(3))
def test_a_stream_cut_at_random_places_tells_each_event_once_and_in_order(world, live_server, api_key, seed):
    chance = random.Random(seed)  # noqa: S311 - a seeded test
    task = world.running()
    worker = threading.Thread(target=work_through, args=(world, task, random.Random(seed + 100)))  # noqa: S311
    follower = Follower(f"{live_server}/v1/fine_tuning/jobs/{task.job_id}/stream", api_key)
    worker.start()
    while not follower.read(chance.choice([1, 40, 200, 700, 1500, 4000])):
        assert follower.cuts < 2000
    worker.join(30)
    assert follower.sequences == events_of(world, task.job_id)
    assert follower.cuts > 10
    assert '"cancelled"' in follower.statuses[-1]


def test_whoever_has_heard_everything_hears_no_event_again(world, live_server, api_key):
    task = world.running()
    work_through(world, task, random.Random(1))  # noqa: S311
    follower = Follower(f"{live_server}/v1/fine_tuning/jobs/{task.job_id}/stream", api_key)
    assert follower.read(10**9)
    count = len(follower.sequences)
    assert follower.read(10**9)
    assert len(follower.sequences) == count > 60
