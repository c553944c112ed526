"""A busy worker takes the job that its GPU would be given next, if that may ride along, and none instead of it."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
from sqlalchemy import update

from app.context import open_context
from app.db.tables import Job, TeamLimits, UsageRecord
from app.factory import Services
from app.jobs.worker_messages import TrainingTask
from app.pool.service import WorkerCard
from tests.support.job_world import JobWorld

OWNER = "gpu0@host/one"


@pytest.fixture
def world(services: Callable[[], AbstractContextManager[Services]]) -> JobWorld:
    world = JobWorld(services)
    with services() as s:
        card = WorkerCard("gpu0@host", "one", "host", {"device": "cpu"}, memory_bytes=16 * 10**9)
        s.pool.register_worker(card)
    return world


def companion(world: JobWorld, owner: str = OWNER) -> TrainingTask | None:
    with world.services() as s:
        return s.job_worker.claim_companion(owner)


def change(world: JobWorld, job_id: str, **values: object) -> None:
    with world.services() as s:
        s.work.session.execute(update(Job).where(Job.id == job_id).values(**values))


def limit(world: JobWorld, team_id: str, **values: object) -> None:
    with world.services() as s:
        s.work.session.add(TeamLimits(team_id=team_id, **values))


def test_small_jobs_join_in_their_order_up_to_the_number_of_seats(world):
    jobs = [world.queued() for _ in range(5)]
    taken = [world.claim(OWNER).job_id]
    while (task := companion(world)) is not None:
        taken.append(task.job_id)
    assert taken == jobs[:4]


def test_an_idle_worker_and_one_that_is_not_known_take_no_companion(world):
    world.queued()
    assert companion(world) is None
    world.claim("gpu7@host/unknown")
    world.queued()
    assert companion(world, "gpu7@host/unknown") is None


def test_a_drained_worker_takes_no_companion(world):
    world.queued()
    world.claim(OWNER)
    world.queued()
    with world.services() as s:
        s.pool.drain(world.team, "gpu0@host", checkpoint=False)
    assert companion(world) is None


def test_nobody_gets_in_before_a_job_that_waits_for_this_gpu(world):
    """The large one is next: small ones behind it would keep the GPU from it."""
    world.queued()
    world.claim(OWNER)
    large, small = world.queued(), world.queued()
    change(world, large, riding=None)
    assert companion(world) is None
    change(world, large, status="cancelled")
    task = companion(world)
    assert task is not None
    assert task.job_id == small


def test_the_team_served_longest_ago_is_next_and_rides_if_both_share(world):
    other = world.add_team("other")
    world.queued()
    world.claim(OWNER)
    mine, theirs = world.queued(), world.queued(other)
    assert companion(world).job_id == theirs
    assert companion(world).job_id == mine


def test_teams_that_must_not_share_a_process_do_not(world):
    other = world.add_team("other")
    limit(world, other.team_id, may_share=False)
    world.queued()
    world.claim(OWNER)
    world.queued()
    world.queued(other)
    assert companion(world) is None, "it is the other team's turn, which waits for the whole GPU"


def test_a_second_rider_takes_no_second_gpu_of_the_quota_and_none_elsewhere(world):
    limit(world, world.team.team_id, max_gpus=1)
    first, second, third = world.queued(), world.queued(), world.queued()
    assert world.claim(OWNER).job_id == first
    assert world.claim("gpu1@host/one") is None, "the quota is used up"
    assert companion(world).job_id == second
    assert world.claim("gpu1@host/one") is None
    assert companion(world).job_id == third


def test_a_job_that_an_idle_worker_can_take_does_not_ride(world):
    world.queued()
    world.claim(OWNER)
    waiting = world.queued()
    for worker_id, memory in (("gpu1@host", 1), ("gpu2@host", 16 * 10**9)):
        with world.services() as s:
            s.pool.register_worker(WorkerCard(worker_id, "one", "host", {"device": "cpu"}, memory_bytes=memory))
        task = companion(world)
        assert (task is None) is (memory > 1), "the first one is too small for it"
        if task is not None:
            with world.services() as s:
                s.job_worker.release(task.job_id, task.fence)
    assert world.claim("gpu2@host/one").job_id == waiting


def test_full_fine_tuning_and_what_is_told_to_ride_alone_have_no_company(world):
    alone = world.queued()
    change(world, alone, riding=None)
    world.claim(OWNER)
    world.queued()
    assert companion(world) is None


def test_with_one_seat_nobody_rides(world, settings):
    context = open_context(settings.model_copy(update={"seats_per_worker": 1}))
    world.queued()
    world.claim(OWNER)
    world.queued()
    with context.database.unit_of_work() as work:
        assert Services(context, work).job_worker.claim_companion(OWNER) is None
    context.close()


def test_a_full_fine_tuning_has_no_ride_and_an_adapter_has(world):
    with_adapter = world.job(world.queued())
    assert set(with_adapter.riding) == {
        "quantization",
        "shared_bytes",
        "own_bytes",
        "in_turn_bytes",
        "tokens",
        "seconds",
    }
    full = world.job(world.queued(training={"adapter": "none"}))
    assert full.riding is None


def test_no_line_of_the_ledger_is_written_before_a_lease_ends(world):
    world.queued()
    world.claim(OWNER)
    world.queued()
    companion(world)
    with world.services() as s:
        assert s.work.session.query(UsageRecord).count() == 0
