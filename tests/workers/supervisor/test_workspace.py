import threading
from dataclasses import replace
from pathlib import Path

from tests.support.house import House
from workers.supervisor.workspace import lack_of_room


def test_a_worker_whose_disk_is_nearly_full_claims_nothing(house: House, tmp_path: Path) -> None:
    greedy = house.context.settings.model_copy(update={"scratch_min_free_bytes": 10**18})
    house.worker_context = replace(house.context, settings=greedy)
    job_id = house.submit()
    with house.gpu_worker() as worker:
        house.wait_until(lambda: worker.slot.is_known, "the pool knows the worker")
        for _ in range(3):
            threading.Event().wait(0.15)  # of a worker that looks ten times a second
            assert house.job(job_id).owner is None
        house.worker_context = house.context
        house.wait_for_status(job_id, "succeeded")


def test_the_room_on_a_disk_is_compared_with_what_is_wanted(tmp_path: Path) -> None:
    assert lack_of_room(tmp_path / "new", 1) is None
    assert "TUNESMITH_SCRATCH_MIN_FREE_BYTES" in (lack_of_room(tmp_path / "new", 10**18) or "")
