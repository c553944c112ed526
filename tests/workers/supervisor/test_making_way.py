"""A running job makes way for a higher claim, or for a drained worker, and ends as if nothing had been."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.context import open_context
from app.settings import Settings
from tests.support.house import HOST, House

HOLD_AT_5 = {"phase": "train", "step": 5, "kind": "hold"}


@pytest.fixture
def house(settings: Settings, tmp_path: Path) -> Iterator[House]:
    """With no rest between two times that a job makes way."""
    quick = {"heartbeat_seconds": 0.2, "lease_seconds": 6, "preempt_after_seconds": 0, "seats_per_worker": 1}
    context = open_context(settings.model_copy(update=quick))
    yield House(context, tmp_path)
    context.close()


def prefer(house: House, job_id: str) -> None:
    with house.context.database.unit_of_work() as work:
        work.session.get(type(house.job(job_id)), job_id).priority = 1


def test_a_job_makes_way_within_seconds_and_ends_elsewhere_with_the_same_adapter(house: House) -> None:
    house.script({**HOLD_AT_5, "times": 2})
    first = house.submit()
    with house.gpu_worker("gpu0"):
        house.wait_until(lambda: house.reached("train"), "step 5 of the first")
        urgent = house.submit()
        house.tick()
        assert house.job(first).preempt_reason is None, "both are of normal priority"
        prefer(house, urgent)
        house.tick()
        house.wait_until(lambda: house.job(urgent).status == "running", "the urgent one has the GPU", 15)
        made_way = house.job(first)
        assert (made_way.status, made_way.owner, made_way.attempts, made_way.losses) == ("queued", None, 0, 0)
        assert made_way.preempted_at is not None
        assert made_way.resume_checkpoint is not None
        assert made_way.resume_checkpoint["step"] == 5
        with house.gpu_worker("gpu1"):
            house.wait_for_status(first, "succeeded")
        house.cancel(urgent)
        house.wait_for_status(urgent, "cancelled")
    assert house.adapter_sha256(first) == house.unbroken_adapter_sha256(first)
    assert (
        f"The job makes way. Your team's job {urgent} is of a higher priority and no worker was free for it. "
        "It waits in the queue and goes on from its last checkpoint"
    ) in house.events(first)


def test_a_drained_worker_checkpoints_lets_go_and_claims_nothing_more(house: House) -> None:
    house.script({**HOLD_AT_5, "times": 1})
    job_id = house.submit()
    with house.gpu_worker("gpu0") as worker:
        house.wait_until(lambda: house.reached("train"), "step 5")
        with house.services() as services:
            view = services.pool.drain(house.caller, f"gpu0@{HOST}", checkpoint=True)
        assert (view.state, [run.job_id for run in view.runs]) == ("draining", [job_id])
        house.wait_until(lambda: house.job(job_id).owner is None, "the worker let go", 15)
        threading.Event().wait(0.5)  # several rounds of the drained worker
        job = house.job(job_id)
        assert (job.status, job.attempts, job.preempted_at) == ("queued", 0, None)
        assert worker.slot.ready is not None
        with house.gpu_worker("gpu1"):
            house.wait_for_status(job_id, "succeeded")
    assert house.adapter_sha256(job_id) == house.unbroken_adapter_sha256(job_id)
    assert any("The operator takes the worker gpu0@test-host out of the pool" in said for said in house.events(job_id))


def test_a_worker_drained_without_a_checkpoint_finishes_its_job(house: House) -> None:
    house.script({"phase": "train", "step": 5, "kind": "hold_until_released", "times": 1})
    job_id, later = house.submit(), house.submit()
    with house.gpu_worker("gpu0"):
        house.wait_until(lambda: house.reached("train"), "step 5")
        with house.services() as services:
            services.pool.drain(house.caller, f"gpu0@{HOST}", checkpoint=False)
        house.release_hold()
        house.wait_for_status(job_id, "succeeded")
        threading.Event().wait(0.5)  # several rounds of the drained worker
        assert house.job(later).status == "queued"
        with house.services() as services:
            services.pool.undrain(house.caller, f"gpu0@{HOST}")
        house.wait_for_status(later, "succeeded")
