"""Small jobs of one base ride together on a worker: each has its own lease and its own end."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import update

from app.context import open_context
from app.db.tables import Job
from app.pool.service import WorkerCard
from app.settings import Settings
from tests.support.house import HOST, House
from workers.supervisor.engine_run import Patience


@pytest.fixture
def house(settings: Settings, tmp_path: Path) -> Iterator[House]:
    changed = {"heartbeat_seconds": 0.2, "lease_seconds": 6, "seats_per_worker": 4, "preempt_after_seconds": 0}
    context = open_context(settings.model_copy(update=changed))
    yield House(context, tmp_path)
    context.close()


def at_step_3(job_id: str, kind: str, **more: int) -> dict:
    return {"phase": "train", "step": 3, "kind": kind, "run": job_id, **more}


def ride(house: House, *kinds: str) -> list[str]:
    """Jobs that will do these things at step 3, submitted in this order."""
    jobs = [house.submit() for _ in kinds]
    house.script(*(at_step_3(job_id, kind, times=1) for job_id, kind in zip(jobs, kinds, strict=True)))
    return jobs


def are_seated(house: House, *jobs: str) -> None:
    house.wait_until(lambda: all(house.job(one).owner is not None and house.metrics(one) for one in jobs), "all ride")
    assert len({house.job(one).owner for one in jobs}) == 1


def is_unbroken(house: House, job_id: str) -> bool:
    return house.adapter_sha256(job_id) == house.unbroken_adapter_sha256(job_id)


def test_a_job_rides_beside_one_that_runs_and_is_done_before_it(house: House) -> None:
    (first,) = ride(house, "hold_until_released")
    with house.gpu_worker() as worker:
        house.wait_until(lambda: house.reached("train"), "step 3 of the first")
        pid = worker.engine_pid()
        second = house.submit()
        house.wait_for_status(second, "succeeded")
        assert house.job(first).status == "running"
        house.release_hold()
        house.wait_for_status(first, "succeeded")
        assert worker.engine_pid() == pid
    assert is_unbroken(house, first)
    assert is_unbroken(house, second)


def test_the_pool_and_the_queue_tell_who_rides_where(house: House) -> None:
    first, second = ride(house, "hold", "hold")
    with house.gpu_worker():
        are_seated(house, first, second)
        with house.services() as services:
            (worker,) = services.pool.view(house.caller).workers
            standing = services.job_queue.standing(house.caller, second)
            use = next(team.use for team in services.pool.view(house.caller).teams)
        assert [run.job_id for run in worker.runs] == [first, second]
        assert (standing.worker_id, standing.rides_with) == (f"gpu0@{HOST}", 1)
        assert standing.why == "The job runs on gpu0@test-host and shares its GPU with another job on the same base."
        assert use.gpus == 1, "one GPU, however many ride on it"
        for one in (first, second):
            house.cancel(one)
            house.wait_for_status(one, "cancelled")


def test_one_that_is_cancelled_leaves_and_the_other_goes_on(house: House) -> None:
    first, second = ride(house, "hold", "hold_until_released")
    with house.gpu_worker() as worker:
        are_seated(house, first, second)
        pid = worker.engine_pid()
        house.cancel(first)
        house.wait_for_status(first, "cancelled")
        assert house.job(second).owner is not None
        house.release_hold()
        house.wait_for_status(second, "succeeded")
        assert worker.engine_pid() == pid
    assert list(house.checkpoints(first)) == [3]
    assert is_unbroken(house, second)


def test_one_whose_lease_is_lost_stops_alone_and_writes_nothing_more(house: House) -> None:
    first, second = ride(house, "hold", "hold_until_released")
    with house.gpu_worker() as worker:
        are_seated(house, first, second)
        pid = worker.engine_pid()
        with house.context.database.unit_of_work() as work:  # as if another worker had it now
            taken = update(Job).where(Job.id == first).values(owner="gpu9@elsewhere/x", fence=Job.fence + 1)
            work.session.execute(taken)
        house.wait_until(lambda: len(rides(worker)) == 1, "the first one's seat is free")
        house.release_hold()
        house.wait_for_status(second, "succeeded")
        assert worker.engine_pid() == pid, "the engine lived through it"
    assert house.job(first).owner == "gpu9@elsewhere/x"
    assert max(house.metrics(first)) <= 3
    assert is_unbroken(house, second)


def rides(worker) -> list[str]:
    return sorted(worker.slot.ensure_ready()._seated)


def test_a_dead_engine_costs_no_rider_an_attempt_and_each_goes_on_alone(house: House) -> None:
    first, second = ride(house, "hold_until_released", "sigkill")
    third = house.submit()
    with house.gpu_worker():
        ended = [house.wait_for_status(one, "succeeded") for one in (second, third)]
        house.release_hold()
        ended.append(house.wait_for_status(first, "succeeded"))
    for job in ended:
        assert job.attempts == 0
        assert is_unbroken(house, job.id)
    for one in (first, second):
        assert house.job(one).riding is None
        assert house.job(one).losses == 1
        assert any("It shared its GPU, and has one of its own from now on" in said for said in house.events(one))


def test_a_job_that_always_kills_its_engine_pays_alone(house: House) -> None:
    good, poison = house.submit(), house.submit()
    house.script(at_step_3(good, "hold_until_released", times=1), {"phase": "encode", "kind": "exit", "run": poison})
    with house.gpu_worker():
        house.wait_until(lambda: house.job(poison).losses == 1, "both were there when the engine died")
        house.release_hold()
        house.wait_for_status(good, "succeeded")
        house.wait_for_status(poison, "failed")
    assert house.job(good).attempts == 0
    assert is_unbroken(house, good)
    found = house.job(poison)
    assert (found.losses, found.attempts) == (1, 3)
    assert found.error is not None
    assert found.error["code"] == "worker_crashed"


def test_one_without_memory_beside_the_others_goes_back_for_free_and_rides_alone(house: House) -> None:
    first, second = ride(house, "hold_until_released", "crowded")
    with house.gpu_worker():
        house.wait_until(lambda: house.job(second).riding is None, "the second was turned away")
        house.wait_until(lambda: house.job(second).status == "queued", "it waits")
        assert house.job(first).owner is not None
        threading.Event().wait(0.5)  # several looks for a companion
        assert house.job(second).status == "queued"
        house.release_hold()
        for one in (first, second):
            job = house.wait_for_status(one, "succeeded")
            assert (job.attempts, job.losses) == (0, 0)
            assert is_unbroken(house, one)
    assert "Resuming from the checkpoint of step 3." in house.events(second)


def test_one_that_fails_by_its_own_fault_leaves_the_others_running(house: House) -> None:
    first, second = ride(house, "hold_until_released", "usage")
    with house.gpu_worker() as worker:
        house.wait_for_status(second, "failed")
        assert house.job(first).owner is not None
        pid = worker.engine_pid()
        house.release_hold()
        house.wait_for_status(first, "succeeded")
        assert worker.engine_pid() == pid
    assert is_unbroken(house, first)


def test_a_long_silence_of_one_at_its_evaluation_is_not_a_hung_engine_for_the_others(house: House) -> None:
    first, second = house.submit(), house.submit()
    held = {"phase": "evaluate", "kind": "hold_until_released", "run": first, "times": 1}
    house.script(held, at_step_3(second, "hold_until_released", times=1))
    patience = Patience(train_seconds=4.0, train_median_steps=1, evaluate_seconds=60)
    with house.gpu_worker(patience=patience) as worker:
        house.wait_until(lambda: house.reached("evaluate") and house.reached("train"), "both are silent")
        pid = worker.engine_pid()
        threading.Event().wait(6.0)  # longer than a training may be silent
        house.release_hold()
        for one in (first, second):
            assert house.wait_for_status(one, "succeeded").losses == 0
        assert worker.engine_pid() == pid


def test_a_drained_worker_checkpoints_all_that_ride_there(house: House) -> None:
    first, second = ride(house, "hold", "hold")
    with house.gpu_worker("gpu0"):
        are_seated(house, first, second)
        with house.services() as services:
            services.pool.drain(house.caller, f"gpu0@{HOST}", checkpoint=True)
        house.wait_until(lambda: all(house.job(one).owner is None for one in (first, second)), "both let go", 15)
        with house.gpu_worker("gpu1"):
            for one in (first, second):
                job = house.wait_for_status(one, "succeeded")
                assert (job.attempts, job.losses) == (0, 0)
                assert is_unbroken(house, one)


def test_all_that_ride_on_a_worker_make_way_together(house: House) -> None:
    first, second = ride(house, "hold", "hold")
    with house.gpu_worker("gpu0"):
        are_seated(house, first, second)
        urgent = house.submit()
        with house.context.database.unit_of_work() as work:  # it cannot ride along
            work.session.execute(update(Job).where(Job.id == urgent).values(priority=1, riding=None))
        house.tick()
        house.wait_for_status(urgent, "succeeded")
        for one in (first, second):
            job = house.wait_for_status(one, "succeeded")
            assert job.preempted_at is not None
            assert (job.attempts, job.losses) == (0, 0)
            assert is_unbroken(house, one)


def test_a_worker_told_to_leave_hands_all_its_jobs_over(house: House) -> None:
    first, second = ride(house, "hold", "hold")
    with house.gpu_worker("gpu0"):
        are_seated(house, first, second)
    for one in (first, second):
        job = house.job(one)
        assert (job.status, job.owner, job.attempts, job.losses) == ("queued", None, 0, 0)
    with house.gpu_worker("gpu1"):
        for one in (first, second):
            house.wait_for_status(one, "succeeded")
            assert is_unbroken(house, one)


def test_jobs_of_a_worker_that_died_with_several_ride_alone_afterwards(house: House) -> None:
    first, second = house.submit(), house.submit()
    with house.services() as services:
        services.pool.register_worker(card())
        assert services.job_worker.claim_training("gpu0@test-host/one") is not None
    with house.services() as services:
        assert services.job_worker.claim_companion("gpu0@test-host/one") is not None
    with house.services() as services:
        assert services.job_worker.release_previous("gpu0@test-host", "two") == 2
    for one in (first, second):
        assert (house.job(one).riding, house.job(one).losses) == (None, 1)


def card():
    return WorkerCard("gpu0@test-host", "one", HOST, {"device": "cpu"}, memory_bytes=16 * 10**9)
