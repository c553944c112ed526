import os
import signal

import pytest

from tests.support.house import House
from workers.supervisor.engine_run import Patience


@pytest.mark.parametrize(
    ("phase", "step"), [("load", None), ("encode", None), ("train", 0), ("train", 3), ("train", 9), ("evaluate", None)]
)
def test_a_job_survives_the_death_of_its_engine(house: House, phase: str, step: int | None) -> None:
    house.script({"phase": phase, "step": step, "kind": "sigkill", "times": 1})
    job_id = house.submit()
    with house.gpu_worker():
        job = house.wait_for_status(job_id, "succeeded")
    assert job.attempts == 1
    assert house.adapter_sha256(job_id) == house.unbroken_adapter_sha256(job_id)
    assert any("SIGKILL" in message for message in house.events(job_id))
    assert job.evaluation is not None


def test_kill_9_in_the_middle_resumes_from_the_local_checkpoint(house: House) -> None:
    house.script({"phase": "train", "step": 7, "kind": "hold", "times": 1})
    job_id = house.submit()
    with house.gpu_worker() as worker:
        house.wait_until(lambda: house.reached("train"), "step 7")
        os.kill(worker.engine_pid(), signal.SIGKILL)
        house.wait_for_status(job_id, "succeeded")
    assert house.adapter_sha256(job_id) == house.unbroken_adapter_sha256(job_id)
    assert "Resuming from the checkpoint of step 6." in house.events(job_id)


def test_another_worker_resumes_from_the_published_checkpoint(house: House) -> None:
    house.script({"phase": "train", "step": 7, "kind": "exit", "times": 1})
    job_id = house.submit()
    with house.gpu_worker("gpu0"):
        house.wait_until(lambda: house.job(job_id).attempts == 1, "the first attempt ended")
    with house.gpu_worker("gpu1"):
        house.wait_for_status(job_id, "succeeded")
    assert "Resuming from the checkpoint of step 6." in house.events(job_id)
    assert house.adapter_sha256(job_id) == house.unbroken_adapter_sha256(job_id)


def test_a_damaged_local_checkpoint_is_passed_over(house: House) -> None:
    house.script({"phase": "train", "step": 7, "kind": "exit", "times": 1})
    job_id = house.submit()
    with house.gpu_worker("gpu0"):
        house.wait_until(lambda: house.job(job_id).attempts == 1, "the first attempt ended")
    (folder,) = (house.folder / "scratch" / "gpu0" / "jobs").iterdir()
    (folder / "output" / "checkpoints" / "step-000006" / "state.json").write_text("{}")
    with house.gpu_worker("gpu0"):
        house.wait_for_status(job_id, "succeeded")
    assert house.adapter_sha256(job_id) == house.unbroken_adapter_sha256(job_id)


def test_a_hung_engine_is_killed_and_the_job_goes_on(house: House) -> None:
    house.script({"phase": "train", "step": 4, "kind": "hang", "times": 1})
    job_id = house.submit()
    with house.gpu_worker(patience=Patience(train_seconds=1.0, train_median_steps=20)):
        job = house.wait_for_status(job_id, "succeeded")
    assert job.attempts == 1
    assert any("no sign of life" in message for message in house.events(job_id))
    assert house.adapter_sha256(job_id) == house.unbroken_adapter_sha256(job_id)


def test_garbage_on_the_pipe_costs_one_attempt(house: House) -> None:
    house.script({"phase": "train", "step": 4, "kind": "garbage", "times": 1})
    job_id = house.submit()
    with house.gpu_worker():
        job = house.wait_for_status(job_id, "succeeded")
    assert job.attempts == 1
    assert house.adapter_sha256(job_id) == house.unbroken_adapter_sha256(job_id)


def test_a_job_that_always_kills_its_engine_is_given_up_and_the_next_one_runs(house: House) -> None:
    house.script({"phase": "encode", "kind": "exit", "times": 3})
    poison = house.submit()
    with house.gpu_worker():
        job = house.wait_for_status(poison, "failed")
        next_job = house.submit()
        house.wait_for_status(next_job, "succeeded")
    assert job.attempts == 3
    assert job.error is not None
    assert job.error["code"] == "worker_crashed"
    assert "exit code 3" in job.error["message"]


@pytest.mark.parametrize("kind", ["usage", "fatal"])
def test_a_failure_the_engine_reports_ends_the_job_with_its_code(house: House, kind: str) -> None:
    house.script({"phase": "encode", "kind": kind, "times": 1})
    job_id = house.submit()
    with house.gpu_worker() as worker:
        job = house.wait_for_status(job_id, "failed")
        assert worker.slot.ready is not None
    assert job.error is not None
    assert job.error["code"] == f"scripted_{kind}"


def test_a_passing_failure_is_tried_again(house: House) -> None:
    house.script({"phase": "encode", "kind": "transient", "times": 1})
    job_id = house.submit()
    with house.gpu_worker():
        job = house.wait_for_status(job_id, "succeeded")
    assert job.attempts == 1


def test_an_engine_that_dies_at_its_start_is_started_again_without_cost_to_a_job(house: House) -> None:
    house.script({"phase": "ready", "kind": "exit", "times": 2})
    job_id = house.submit()
    with house.gpu_worker():
        job = house.wait_for_status(job_id, "succeeded")
    assert job.attempts == 0
