"""How an attempt at a job ends: released, crashed, failed, cancelled, paused."""

from app.contracts.errors import WorkerError, transient
from app.db.tables import Job
from app.jobs.worker_messages import Directive
from tests.support.job_world import adapter, metric

USAGE = WorkerError(kind="usage", code="loss_diverged", message="The loss is not finite.", param="n_epochs")


def test_a_released_job_goes_back_without_losing_an_attempt(world):
    task = world.running()
    with world.services() as s:
        s.job_worker.record_resume_checkpoint(task.job_id, task.fence, 5, "k/5", "5" * 64)
        s.job_worker.release(task.job_id, task.fence)
    assert world.job(task.job_id).status == "queued"
    again = world.claim()
    assert again.attempts == 0
    assert again.fence == task.fence + 1
    assert (again.resume_checkpoint.step, again.resume_checkpoint.archive_key) == (5, "k/5")


def test_a_crash_waits_a_little_and_counts(world, context):
    task = world.running()
    with world.services() as s:
        s.job_worker.fail(task.job_id, task.fence, transient("worker_crashed", "the engine was killed").error)
    job = world.job(task.job_id)
    assert (job.status, job.attempts) == ("queued", 1)
    assert world.claim() is None, "the back-off is not over"
    assert "Attempt 1 of 3 is lost" in world.messages(task.job_id)[-1]


def test_too_many_crashes_fail_the_job(world, context):
    job_id = world.queued()
    for _ in range(context.settings.max_attempts):
        with world.services() as s:
            s.work.session.get(Job, job_id).not_before = None
        task = world.claim()
        with world.services() as s:
            s.job_worker.fail(job_id, task.fence, transient("out_of_memory", "the engine was killed").error)
    job = world.job(job_id)
    assert (job.status, job.error["code"]) == ("failed", "out_of_memory")
    assert "given up after 3 lost attempts. The last one ended so: the engine was killed" in job.error["message"]


def test_a_transient_error_is_a_lost_attempt_and_a_usage_error_the_end(world):
    task = world.running()
    with world.services() as s:
        s.job_worker.fail(task.job_id, task.fence, WorkerError(kind="transient", code="x", message="store away"))
    assert world.job(task.job_id).status == "queued"
    with world.services() as s:
        s.work.session.get(Job, task.job_id).not_before = None
    task = world.claim()
    with world.services() as s:
        s.job_worker.fail(task.job_id, task.fence, USAGE)
    job = world.job(task.job_id)
    assert (job.status, job.error) == (
        "failed",
        {"code": "loss_diverged", "message": "The loss is not finite.", "param": "n_epochs"},
    )


def test_the_worker_learns_of_a_cancel_at_its_next_heartbeat_and_may_still_save(world):
    task = world.running()
    with world.services() as s:
        assert s.job_worker.heartbeat(task.job_id, task.fence) is Directive.CONTINUE
        assert s.jobs.cancel(world.team, task.job_id).status == "cancelled"
    with world.services() as s:
        assert s.job_worker.heartbeat(task.job_id, task.fence) is Directive.CANCEL
        model = s.job_worker.publish_checkpoint(task.job_id, task.fence, 3, adapter(), metric(3), is_final=False)
        s.job_worker.release(task.job_id, task.fence)
    job = world.job(task.job_id)
    assert (job.status, job.owner) == ("cancelled", None)
    assert model in world.messages(task.job_id)[-1]


def test_a_run_that_ends_as_it_is_cancelled_stays_cancelled(world):
    task = world.running()
    with world.services() as s:
        s.job_worker.publish_checkpoint(task.job_id, task.fence, 9, adapter(), None, is_final=True)
        s.jobs.cancel(world.team, task.job_id)
    with world.services() as s:
        assert s.job_worker.succeed(task.job_id, task.fence, trained_tokens=1) is False
    job = world.job(task.job_id)
    assert (job.status, job.owner, job.result_file_id) == ("cancelled", None, None)


def test_a_paused_job_lets_go_and_comes_back_where_it_was(world):
    task = world.running()
    with world.services() as s:
        s.jobs.pause(world.team, task.job_id)
    with world.services() as s:
        assert s.job_worker.heartbeat(task.job_id, task.fence) is Directive.PAUSE
        s.job_worker.record_resume_checkpoint(task.job_id, task.fence, 2, "k/2", "6" * 64)
        s.job_worker.release(task.job_id, task.fence)
    assert world.claim() is None
    with world.services() as s:
        assert s.jobs.resume(world.team, task.job_id).status == "queued"
    again = world.claim()
    assert again.resume_checkpoint.step == 2
    assert world.messages(task.job_id)[-1] == "Fine-tuning job continued (attempt 1)"


def test_a_job_paused_and_resumed_between_two_heartbeats_just_goes_on(world):
    task = world.running()
    with world.services() as s:
        s.jobs.pause(world.team, task.job_id)
    with world.services() as s:
        s.jobs.resume(world.team, task.job_id)
    assert world.claim("host-1/first") is None, "its lease is still held"
    with world.services() as s:
        assert s.job_worker.heartbeat(task.job_id, task.fence) is Directive.CONTINUE
    assert world.job(task.job_id).status == "running"


def test_a_job_paused_while_its_files_are_read_keeps_its_report(world):
    job_id = world.submit()
    with world.services() as s:
        task = s.job_worker.claim_validation("cpu-0/first")
        s.jobs.pause(world.team, job_id)
    with world.services() as s:
        s.job_worker.finish_validation(task, s.job_worker.inspect(task))
    assert world.job(job_id).status == "paused"
    with world.services() as s:
        assert s.jobs.resume(world.team, job_id).status == "queued"


def test_a_job_paused_before_its_files_are_read_is_read_on_resume(world):
    job_id = world.submit()
    with world.services() as s:
        s.jobs.pause(world.team, job_id)
    assert world.validate() is None
    with world.services() as s:
        assert s.jobs.resume(world.team, job_id).status == "validating_files"
    assert world.validate() == job_id
