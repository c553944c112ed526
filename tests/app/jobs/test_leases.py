"""Leases of jobs: how they end, who may write, and what a worker that lost one can still do: nothing."""

import pytest

from app.db.tables import Job
from app.jobs.fencing import Fenced
from app.jobs.worker_messages import Directive
from app.jobs.worker_service import JobWorkerService
from tests.support.job_world import OWNER
from tests.support.worker_writes import WRITES


def test_the_reaper_ends_leases_that_ran_out_and_only_those(world):
    lost, alive = world.running(), world.running()
    world.expire(lost.job_id)
    with world.services() as s:
        assert s.job_worker.tick() == 1
    assert world.job(lost.job_id).status == "queued"
    assert (world.job(lost.job_id).attempts, world.job(lost.job_id).losses) == (0, 1)
    assert world.job(alive.job_id).status == "running"
    with world.services() as s:
        assert s.job_worker.heartbeat(lost.job_id, lost.fence) is Directive.FENCED


def test_lost_workers_do_not_count_as_attempts_yet_have_a_limit_of_their_own(world, context):
    job_id = world.queued()
    for number in range(context.settings.max_losses):
        with world.services() as s:
            s.work.session.get(Job, job_id).not_before = None
        assert world.claim().job_id == job_id
        world.expire(job_id)
        with world.services() as s:
            assert s.job_worker.reap() == 1
        job = world.job(job_id)
        assert (job.attempts, job.losses) == (0, number + 1)
    assert (job.status, job.error["code"]) == ("failed", "worker_lost")
    assert f"after {context.settings.max_losses} lost workers" in job.error["message"]


def test_the_reaper_frees_a_validation_that_nobody_finishes(world):
    job_id = world.submit()
    with world.services() as s:
        s.job_worker.claim_validation("cpu-0/first")
    world.expire(job_id)
    with world.services() as s:
        assert s.job_worker.reap() == 1
    job = world.job(job_id)
    assert (job.status, job.attempts, job.losses, job.owner) == ("validating_files", 0, 1, None)


def test_only_one_control_role_is_at_work(world):
    with world.services() as first, world.services() as second:
        assert first.job_worker.tick() == 0
        assert second.job_worker.tick() == -1


def test_a_worker_started_anew_loses_what_it_held_and_others_keep_theirs(world):
    mine, other = world.running(), world.queued()
    assert world.claim("host-00/first").job_id == other
    with world.services() as s:
        assert s.job_worker.release_previous("host-0", "second") == 1
    assert world.job(mine.job_id).status == "queued"
    assert world.job(other).status == "running"


def test_a_worker_keeps_what_it_holds_in_this_life(world):
    task = world.running()
    with world.services() as s:
        assert s.job_worker.release_previous(*OWNER.split("/")) == 0
    assert world.job(task.job_id).owner == OWNER


def test_a_heartbeat_never_shortens_a_long_lease(world, context):
    job_id = world.submit()
    with world.services() as s:
        task = s.job_worker.claim_validation("cpu-0/first")
    with world.services() as s:
        s.work.session.get(Job, job_id).lease_until = far = world.job(job_id).created_at.replace(year=2100)
    with world.services() as s:
        s.job_worker.heartbeat(job_id, task.fence)
    assert world.job(job_id).lease_until == far


def snapshot_of(world, job_id):
    job = world.job(job_id)
    columns = {column.name: getattr(job, column.key) for column in Job.__mapper__.columns}
    with world.services() as s:
        metrics, _ = s.jobs.metrics(world.team, job_id, after_step=0, limit=100)
        checkpoints = s.jobs.checkpoints(world.team, job_id, after=None, limit=100).rows
    return columns, world.messages(job_id), world.audited(job_id), len(metrics), len(checkpoints)


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("successor", ["reaped", "claimed anew", "released"])
def test_a_worker_that_lost_its_lease_can_change_nothing(world, write, successor):
    stale = world.running()
    if successor == "released":
        with world.services() as s:
            s.job_worker.release(stale.job_id, stale.fence)
    else:
        world.expire(stale.job_id)
        with world.services() as s:
            s.job_worker.reap()
    if successor == "claimed anew":
        with world.services() as s:
            s.work.session.get(Job, stale.job_id).not_before = None
        assert world.claim("host-1/first") is not None
    before = snapshot_of(world, stale.job_id)
    with pytest.raises(Fenced), world.services() as s:
        WRITES[write](s.job_worker, stale.job_id, stale.fence)
    assert snapshot_of(world, stale.job_id) == before


def test_a_stale_validation_cannot_finish(world):
    job_id = world.submit()
    with world.services() as s:
        task = s.job_worker.claim_validation("cpu-0/first")
    world.expire(job_id)
    with world.services() as s:
        s.job_worker.reap()
    with world.services() as s:
        report = s.job_worker.inspect(task)
    with pytest.raises(Fenced), world.services() as s:
        s.job_worker.finish_validation(task, report)
    assert world.job(job_id).status == "validating_files"


def test_every_write_of_the_interface_is_among_the_stale_writes():
    public = {name for name in dir(JobWorkerService) if not name.startswith("_")}
    not_fenced = {
        "claim_validation",
        "claim_training",
        "claim_companion",
        "enforce_budgets",
        "inspect",
        "reap",
        "release_previous",
        "tick",
        "make_way",
    }
    assert public - not_fenced == {*WRITES, "finish_validation", "heartbeat"}
