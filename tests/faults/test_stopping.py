import dataclasses
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from app.artifacts.base import ArtifactStore, Stored
from tests.support.house import House

GPU_FREE_SECONDS = 10.0


def is_gone(pid: int) -> bool:
    return not psutil.pid_exists(pid)


@pytest.mark.parametrize("phase", ["load", "encode", "train", "evaluate"])
def test_a_cancelled_job_lets_go_of_an_engine_that_listens(house: House, phase: str) -> None:
    house.script({"phase": phase, "step": 5 if phase == "train" else None, "kind": "hold", "times": 1})
    job_id = house.submit()
    with house.gpu_worker() as worker:
        house.wait_until(lambda: house.reached(phase), phase)
        pid = worker.engine_pid()
        house.cancel(job_id)
        cancelled_at = time.monotonic()
        house.wait_for_status(job_id, "cancelled")
        assert time.monotonic() - cancelled_at < 3.0
        next_job = house.submit()
        house.wait_for_status(next_job, "succeeded")
        assert worker.engine_pid() == pid


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["load", "train"])
def test_a_cancelled_job_gives_back_the_gpu_of_a_deaf_engine_within_10_seconds(house: House, phase: str) -> None:
    house.script({"phase": phase, "step": 5 if phase == "train" else None, "kind": "hang", "times": 1})
    job_id = house.submit()
    with house.gpu_worker() as worker:
        house.wait_until(lambda: house.reached(phase), phase)
        pid = worker.engine_pid()
        house.cancel(job_id)
        house.wait_until(lambda: is_gone(pid), "the engine is gone", GPU_FREE_SECONDS)
        house.wait_for_status(job_id, "cancelled")


class BlockedStore:
    """An artifact store that takes adapters only after `opened` is set."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store
        self.opened = threading.Event()

    def put_file(self, key: str, path: Path) -> Stored:
        if "adapter" in key:
            self.opened.wait(60)
        return self._store.put_file(key, path)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


@pytest.mark.slow
def test_a_cancelled_job_gives_back_the_gpu_while_an_upload_is_stuck(house: House) -> None:
    store = BlockedStore(house.context.artifacts)
    house.worker_context = dataclasses.replace(house.context, artifacts=store)
    house.script({"phase": "train", "step": 7, "kind": "hang", "times": 1})
    job_id = house.submit()
    with house.gpu_worker() as worker:
        house.wait_until(lambda: house.reached("train"), "step 7")
        pid = worker.engine_pid()
        house.cancel(job_id)
        house.wait_until(lambda: is_gone(pid), "the engine is gone", GPU_FREE_SECONDS)
        # Longer than the lease: it has been renewed all the while.
        assert house.job(job_id).owner is not None
        store.opened.set()
        house.wait_for_status(job_id, "cancelled")
    assert sorted(house.checkpoints(job_id)) == [5, 6]


def test_a_cancelled_job_keeps_its_last_checkpoint(house: House) -> None:
    house.script({"phase": "train", "step": 3, "kind": "hold", "times": 1})
    job_id = house.submit()
    with house.gpu_worker():
        house.wait_until(lambda: house.reached("train"), "step 3")
        house.cancel(job_id)
        job = house.wait_for_status(job_id, "cancelled")
    assert list(house.checkpoints(job_id)) == [3]
    assert ":ckpt-step-3" in house.checkpoints(job_id)[3]
    assert job.tuned_model_id is None
    assert job.resume_checkpoint is not None
    with pytest.raises(KeyError):
        house.context.artifacts.size(job.resume_checkpoint["archive_key"])


def test_a_job_cancelled_during_evaluation_keeps_its_model(house: House) -> None:
    house.script({"phase": "evaluate", "kind": "hold", "times": 1})
    job_id = house.submit()
    with house.gpu_worker():
        house.wait_until(lambda: house.reached("evaluate"), "evaluation")
        house.cancel(job_id)
        job = house.wait_for_status(job_id, "cancelled")
    assert job.tuned_model_id in house.models(job_id)


def test_a_paused_job_goes_on_where_it_was_on_another_worker(house: House) -> None:
    house.script({"phase": "train", "step": 5, "kind": "hold", "times": 1})
    job_id = house.submit()
    with house.gpu_worker("gpu0"):
        house.wait_until(lambda: house.reached("train"), "step 5")
        house.pause(job_id)
        job = house.wait_for_status(job_id, "paused")
    assert job.resume_checkpoint is not None
    assert job.resume_checkpoint["step"] == 5
    assert 5 in house.checkpoints(job_id)
    house.resume(job_id)
    with house.gpu_worker("gpu1"):
        job = house.wait_for_status(job_id, "succeeded")
    assert "Resuming from the checkpoint of step 5." in house.events(job_id)
    assert house.adapter_sha256(job_id) == house.unbroken_adapter_sha256(job_id)
    assert job.attempts == 0


def test_a_job_paused_during_evaluation_is_only_evaluated_after_its_resumption(house: House) -> None:
    house.script({"phase": "evaluate", "kind": "hold", "times": 1})
    job_id = house.submit()
    with house.gpu_worker():
        house.wait_until(lambda: house.reached("evaluate"), "evaluation")
        house.pause(job_id)
        house.wait_for_status(job_id, "paused")
        events = len(house.events(job_id))
        house.resume(job_id)
        job = house.wait_for_status(job_id, "succeeded")
    assert job.evaluation is not None
    assert not [message for message in house.events(job_id)[events:] if message.startswith("Step ")]
    assert house.adapter_sha256(job_id) == house.unbroken_adapter_sha256(job_id)


def test_a_worker_told_to_leave_hands_its_job_over_without_a_lost_attempt(house: House) -> None:
    house.script({"phase": "train", "step": 5, "kind": "hold", "times": 1})
    job_id = house.submit()
    with house.gpu_worker("gpu0") as worker:
        house.wait_until(lambda: house.reached("train"), "step 5")
        pid = worker.engine_pid()
    assert is_gone(pid)
    job = house.job(job_id)
    assert (job.status, job.owner, job.attempts) == ("queued", None, 0)
    with house.gpu_worker("gpu1"):
        house.wait_for_status(job_id, "succeeded")
    assert "Resuming from the checkpoint of step 5." in house.events(job_id)
    assert house.adapter_sha256(job_id) == house.unbroken_adapter_sha256(job_id)
