import signal
from pathlib import Path

import psutil
import pytest

from tests.support.house import House

HOLD_AT_5 = {"phase": "train", "step": 5, "kind": "hold", "times": 1}
HANG_AT_7 = {"phase": "train", "step": 7, "kind": "hang", "times": 1}


def engine_of(process) -> psutil.Process:
    (engine,) = [
        child for child in psutil.Process(process.pid).children() if "scripted_engine" in " ".join(child.cmdline())
    ]
    return engine


def is_over(engine: psutil.Process) -> bool:
    return not engine.is_running() or engine.status() == psutil.STATUS_ZOMBIE


@pytest.mark.slow
def test_kill_9_of_the_supervisor_costs_no_attempt_and_changes_no_result(house: House) -> None:
    house.script(HANG_AT_7)
    job_id = house.submit()
    with house.worker_process("gpu", "gpu0") as process:
        house.wait_until(lambda: house.reached("train"), "step 5")
        engine = engine_of(process)
        process.kill()
        process.wait()
        house.wait_until(lambda: is_over(engine), "the engine died with its supervisor", 5)
    # The same name again: its earlier life's lease ends at once, not after `lease_seconds`.
    with house.worker_process("gpu", "gpu0"):
        job = house.wait_for_status(job_id, "succeeded")
    assert (job.attempts, job.losses) == (0, 1)
    assert house.adapter_sha256(job_id) == house.unbroken_adapter_sha256(job_id)
    assert any(message.startswith("Resuming from the checkpoint of step 6") for message in house.events(job_id))


@pytest.mark.slow
def test_sigterm_hands_the_job_over_and_leaves_nothing_behind(house: House) -> None:
    house.script(HOLD_AT_5)
    job_id = house.submit()
    with house.worker_process("gpu", "gpu0") as process:
        house.wait_until(lambda: house.reached("train"), "step 5")
        engine = engine_of(process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
        assert is_over(engine)
    job = house.job(job_id)
    assert (job.status, job.owner, job.attempts) == ("queued", None, 0)
    assert job.resume_checkpoint is not None
    assert job.resume_checkpoint["step"] == 5


@pytest.mark.slow
def test_sigterm_ends_an_idle_worker_of_each_role(house: House) -> None:
    with (
        house.worker_process("gpu", "gpu0") as gpu,
        house.worker_process("cpu", "cpu0") as cpu,
        house.worker_process("control", "control0") as control,
    ):
        job_id = house.submit()
        house.wait_for_status(job_id, "succeeded")
        for process in (gpu, cpu, control):
            process.send_signal(signal.SIGTERM)
        assert [process.wait(timeout=30) for process in (gpu, cpu, control)] == [0, 0, 0]


@pytest.mark.slow
def test_an_expired_lease_is_reaped_and_another_worker_finishes_the_job(house: House) -> None:
    house.script(HANG_AT_7)
    job_id = house.submit()
    with house.worker_process("gpu", "gpu0") as process:
        house.wait_until(lambda: house.reached("train"), "step 5")
        process.kill()
        process.wait()
    with house.worker_process("control", "control0"), house.gpu_worker("gpu1"):
        job = house.wait_for_status(job_id, "succeeded")
    assert (job.attempts, job.losses) == (0, 1)
    assert house.adapter_sha256(job_id) == house.unbroken_adapter_sha256(job_id)


@pytest.mark.slow
def test_figures_that_a_stopped_supervisor_never_read_are_recorded_by_the_next_attempt(house: House) -> None:
    house.script({"phase": "train", "step": 1, "kind": "hold_until_released", "times": 1}, HANG_AT_7)
    job_id = house.submit()
    with house.worker_process("gpu", "gpu0") as process:
        house.wait_until(lambda: 1 in house.metrics(job_id), "step 1")
        process.send_signal(signal.SIGSTOP)
        Path(f"{house.script_path}.reached-train").unlink()
        house.release_hold()
        house.wait_until(lambda: house.reached("train"), "the engine goes on alone, to the step where it hangs")
        process.kill()
    with house.worker_process("gpu", "gpu0"):
        house.wait_for_status(job_id, "succeeded")
    assert "Resuming from the checkpoint of step 6." in house.events(job_id)
    assert sorted(house.metrics(job_id)) == list(range(1, 11))
