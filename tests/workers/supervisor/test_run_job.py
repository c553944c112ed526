import pytest

from tests.support.house import House

STEPS = 10  # 20 rows, of which some are held out, in batches of 4, twice: see `total_steps`


def total_steps(house: House, job_id: str) -> int:
    return max(house.metrics(job_id))


def test_a_job_goes_from_the_queue_to_succeeded(house: House) -> None:
    job_id = house.submit()
    with house.gpu_worker():
        job = house.wait_for_status(job_id, "succeeded")
    assert job.tuned_model_id in house.models(job_id)
    assert job.evaluation is not None
    assert job.result_file_id is not None
    steps = sorted(house.metrics(job_id))
    assert steps == list(range(1, steps[-1] + 1))
    assert job.trained_tokens == steps[-1] * 10
    assert job.attempts == 0


def test_each_epoch_leaves_a_checkpoint_and_the_last_one_is_the_model(house: House) -> None:
    job_id = house.submit()
    with house.gpu_worker():
        job = house.wait_for_status(job_id, "succeeded")
    checkpoints = house.checkpoints(job_id)
    last = total_steps(house, job_id)
    assert sorted(checkpoints) == [last // 2, last]
    assert checkpoints[last] == job.tuned_model_id


def test_the_scratch_folder_and_the_resume_archive_are_gone_after_success(house: House) -> None:
    job_id = house.submit()
    with house.gpu_worker():
        job = house.wait_for_status(job_id, "succeeded")
        house.wait_until(lambda: not list(house.folder.glob("scratch/gpu0/jobs/*")), "scratch is empty")
    assert job.resume_checkpoint is not None
    with pytest.raises(KeyError):
        house.context.artifacts.size(job.resume_checkpoint["archive_key"])


def test_the_engine_stays_warm_for_the_next_job(house: House) -> None:
    first, second = house.submit(), house.submit()
    with house.gpu_worker() as worker:
        house.wait_for_status(first, "succeeded")
        pid = worker.engine_pid()
        house.wait_for_status(second, "succeeded")
        assert worker.engine_pid() == pid
