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


def test_the_best_step_is_the_result_and_the_last_one_stays_a_checkpoint(house: House) -> None:
    house.script(best_step=5, keep=2)
    job_id = house.submit()
    with house.gpu_worker():
        job = house.wait_for_status(job_id, "succeeded")
    last = total_steps(house, job_id)
    assert last == 10
    checkpoints = house.checkpoints(job_id)
    assert sorted(checkpoints) == [5, 10]
    assert checkpoints[5] == job.tuned_model_id
    assert checkpoints[10].endswith(":ckpt-step-10")
    models = house.models(job_id)
    final, early = models[checkpoints[5]], next(m for m in models.values() if m.step == 5 and not m.is_final)
    assert (final.is_final, final.step) == (True, 5)
    assert final.archive_key == early.archive_key, "stored once, under two names"
    assert final.adapter_sha256 != models[checkpoints[10]].adapter_sha256
    assert job.resume_checkpoint is not None
    assert job.resume_checkpoint["step"] == 10, "nobody resumes from before the last step"
    assert "Step 5 was the best of all." in house.events(job_id)
    assert job.trained_tokens == 100


def test_a_run_that_ends_early_succeeds_and_says_so(house: House) -> None:
    house.script(best_step=5, last_step=7)
    job_id = house.submit()
    with house.gpu_worker():
        job = house.wait_for_status(job_id, "succeeded")
    assert "Step 5 was the best of all." in house.events(job_id)
    assert house.checkpoints(job_id) == {5: job.tuned_model_id}
    assert max(house.metrics(job_id)) == 7


@pytest.mark.parametrize("best_step", [5, 10])
def test_an_attempt_that_finds_the_run_finished_publishes_the_same_result(house: House, best_step: int) -> None:
    house.script({"phase": "evaluate", "kind": "sigkill", "times": 1}, best_step=best_step, keep=2)
    job_id = house.submit()
    with house.gpu_worker():
        job = house.wait_for_status(job_id, "succeeded")
    assert job.attempts == 1
    assert house.checkpoints(job_id)[best_step] == job.tuned_model_id
    finals = [model for model in house.models(job_id).values() if model.is_final]
    assert [model.id for model in finals] == [job.tuned_model_id]
    assert job.resume_checkpoint is not None
    assert job.resume_checkpoint["step"] == 10


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
