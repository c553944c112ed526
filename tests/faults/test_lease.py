import dataclasses
import threading
import time

import psutil
import pytest
from sqlalchemy import func, select, update
from sqlalchemy.exc import OperationalError

from app.contracts.errors import transient
from app.db.engine import Database
from app.db.tables import Job
from tests.support.house import HOST, House
from workers.supervisor.held_job import HeldJob
from workers.supervisor.identity import WorkerName
from workers.supervisor.lease import Lease, LeaseLost


class AwayDatabase(Database):
    """The house's database, which can be unreachable: a fault of the outside, seen from inside."""

    def __init__(self, database: Database) -> None:
        self._real = database
        self.scope = database.scope
        self.is_away = threading.Event()
        self.fails_after_commit = 0
        self.refusals = 0

    def open(self, scope=None):
        if self.is_away.is_set():
            self.refusals += 1
            raise OperationalError("connect", {}, ConnectionError("connection refused"))
        work = self._real.open(scope)
        if self.fails_after_commit:
            self.fails_after_commit -= 1
            commit = work.commit

            def commit_then_fail() -> None:
                commit()
                raise OperationalError("COMMIT", {}, ConnectionError("connection reset"))

            work.commit = commit_then_fail
        return work

    def close(self) -> None:
        self._real.close()


@pytest.fixture
def away(house: House) -> AwayDatabase:
    database = AwayDatabase(house.context.database)
    house.worker_context = dataclasses.replace(house.context, database=database)
    return database


def steal(house: House, job_id: str) -> None:
    """Another worker takes the job, as after an expired lease."""
    with house.services() as services:
        job = house.job(job_id)
        services.work.session.execute(
            update(Job).where(Job.id == job_id).values(fence=job.fence + 1, owner="gpu9@elsewhere/1")
        )


def test_a_worker_whose_job_was_taken_stops_its_engine_and_writes_nothing(house: House) -> None:
    house.script({"phase": "train", "step": 5, "kind": "hold"})
    job_id = house.submit()
    with house.gpu_worker() as worker:
        house.wait_until(lambda: house.reached("train"), "step 5")
        pid = worker.engine_pid()
        house.wait_until(lambda: len(house.metrics(job_id)) == 5, "five metrics")
        steal(house, job_id)
        before = (house.events(job_id), house.metrics(job_id), house.checkpoints(job_id))
        house.wait_until(lambda: not psutil.pid_exists(pid), "the engine is stopped")
        house.wait_until(lambda: not is_at_work(), "the round is over")
        assert (house.events(job_id), house.metrics(job_id), house.checkpoints(job_id)) == before
        job = house.job(job_id)
    assert (job.status, job.owner) == ("running", "gpu9@elsewhere/1")


def is_at_work() -> bool:
    return any(thread.name == "run-watch" for thread in threading.enumerate())


def test_every_write_with_a_stale_fence_is_refused(house: House) -> None:
    job_id = house.submit()
    with house.services() as services:
        task = services.job_worker.claim_training(WorkerName("gpu0", HOST).owner)
    assert task is not None
    steal(house, job_id)
    for verb in (
        lambda jobs: jobs.record_event(job_id, task.fence, "stale"),
        lambda jobs: jobs.record_resume_checkpoint(job_id, task.fence, 1, "key", "0"),
        lambda jobs: jobs.succeed(job_id, task.fence, trained_tokens=1),
        lambda jobs: jobs.fail(job_id, task.fence, transient("stale", "stale").error),
        lambda jobs: jobs.release(job_id, task.fence),
    ):
        held = HeldJob(house.context, job_id, task.fence, Lease(60, granted_at=time.monotonic()))
        with pytest.raises(LeaseLost):
            held.write(verb)
        assert held.lease.seconds_left() == 0
    assert "stale" not in house.events(job_id)


def test_a_database_away_for_a_while_costs_nothing(house: House, away: AwayDatabase) -> None:
    house.script({"phase": "train", "step": 5, "kind": "hold_until_released", "times": 1})
    job_id = house.submit()
    with house.gpu_worker():
        house.wait_until(lambda: house.reached("train"), "step 5")
        away.is_away.set()
        house.release_hold()
        house.wait_until(lambda: away.refusals >= 10, "ten refusals")
        away.is_away.clear()
        job = house.wait_for_status(job_id, "succeeded")
    assert job.attempts == 0
    assert house.adapter_sha256(job_id) == house.unbroken_adapter_sha256(job_id)


def ticked(house: House, job_id: str) -> Job:
    house.tick()
    return house.job(job_id)


@pytest.mark.slow
def test_an_engine_is_stopped_before_a_lease_that_cannot_be_renewed_ends(house: House, away: AwayDatabase) -> None:
    house.script({"phase": "train", "step": 5, "kind": "hold", "times": 1})
    job_id = house.submit()
    with house.gpu_worker() as worker:
        house.wait_until(lambda: house.reached("train"), "step 5")
        engine = worker.slot._engine
        lease_until = house.job(job_id).lease_until
        away.is_away.set()
        house.wait_until(lambda: not engine.is_alive(), "the engine is stopped", 6)
        away.is_away.clear()
        with house.services() as services:
            now = services.work.session.scalar(select(func.clock_timestamp()))
        assert now < lease_until
        house.wait_until(lambda: ticked(house, job_id).losses == 1, "the lease is reaped")
        house.wait_for_status(job_id, "succeeded")
    assert house.adapter_sha256(job_id) == house.unbroken_adapter_sha256(job_id)


def test_a_commit_that_happened_although_it_failed_is_not_done_twice(house: House, away: AwayDatabase) -> None:
    house.script({"phase": "train", "step": 3, "kind": "hold_until_released", "times": 1})
    job_id = house.submit()
    with house.gpu_worker():
        house.wait_until(lambda: house.reached("train"), "step 3")
        away.fails_after_commit = 8
        house.release_hold()
        job = house.wait_for_status(job_id, "succeeded")
    last = max(house.metrics(job_id))
    steps = [message for message in house.events(job_id) if message.startswith(f"Step {last}/")]
    assert len(steps) == 1
    assert len(house.models(job_id)) == 2
    assert job.attempts == 0
