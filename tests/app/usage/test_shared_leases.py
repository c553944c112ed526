"""Several leases of one worker share its time, by the tokens each trained, and leave no second out or twice in."""

import random
from datetime import timedelta

import pytest
from sqlalchemy import func, select, update

from app.db.tables import GpuLease, Job, UsageRecord
from app.usage.kinds import Kind
from tests.app.usage.test_ledger import ENDS, age_lease, call, expire, gpu_seconds
from tests.support.job_world import OWNER, metric

VERBS = sorted(ENDS.keys() - {"restart"})


def seated(world, count):
    """Jobs on one worker, in the order of their claims."""
    for _ in range(count):
        world.queued()
    return [world.claim(OWNER) for _ in range(count)]


def train(world, task, *tokens):
    with world.services() as s:
        figures = [metric(step, tokens=number) for step, number in enumerate(tokens, start=1)]
        s.job_worker.record_metrics(task.job_id, task.fence, figures)


def settle_back(world, seconds):
    """All riders came so long ago."""
    with world.services() as s:
        past = func.clock_timestamp() - timedelta(seconds=seconds)
        s.work.session.execute(update(GpuLease).values(started_at=past, settled_at=past, gpu_seconds=0))


def test_two_that_rode_together_pay_by_their_tokens(world):
    large, small = seated(world, 2)
    settle_back(world, 100)
    train(world, large, 100, 200)
    train(world, small, 50, 50)
    call(world, "release", small)
    [seconds] = gpu_seconds(world, small.job_id)
    assert seconds == pytest.approx(25, rel=0.03)
    call(world, "release", large)
    [rest] = gpu_seconds(world, large.job_id)
    assert rest == pytest.approx(75, rel=0.03)
    assert world.job(large.job_id).usage["gpu_seconds"] == pytest.approx(rest, abs=1e-5)


def test_the_time_before_a_companion_came_is_the_first_one_s(world):
    world.queued()
    first = world.claim(OWNER)
    age_lease(world, first.job_id, 60)
    world.queued()
    second = world.claim(OWNER)
    train(world, second, 1000)
    call(world, "release", second)
    call(world, "release", first)
    assert 60 <= gpu_seconds(world, first.job_id)[0] < 75
    assert gpu_seconds(world, second.job_id)[0] < 15


def test_a_worker_s_jobs_of_another_worker_share_nothing(world):
    world.queued()
    first = world.claim("host-0/first")
    world.queued()
    second = world.claim("host-1/first")
    age_lease(world, first.job_id, 100)
    age_lease(world, second.job_id, 100)
    for task in (first, second):
        call(world, "release", task)
        assert 100 <= gpu_seconds(world, task.job_id)[0] < 115


def test_a_team_s_open_leases_count_by_their_part(world):
    first, second = seated(world, 2)
    settle_back(world, 100)
    with world.services() as s:
        used = s.budgets.standing(world.team.team_id).used_seconds
    assert used == pytest.approx(100, rel=0.05), "not 200: one GPU"
    for task in (first, second):
        call(world, "release", task)


def test_a_worker_lost_with_several_is_paid_for_until_the_last_lease_ran_out(world):
    tasks = seated(world, 3)
    settle_back(world, 600)
    for number, task in enumerate(tasks):
        expire(world, task.job_id, seconds_ago=500 - 10 * number)
    with world.services() as s:
        assert s.job_worker.reap() == 3
    total = sum(gpu_seconds(world, task.job_id)[0] for task in tasks)
    assert total == pytest.approx(120, rel=0.02)


@pytest.mark.parametrize("seed", range(6))
def test_on_any_path_the_riders_pay_together_for_the_time_the_worker_was_busy(world, seed):
    chance = random.Random(seed)  # noqa: S311 - a seeded test
    for _ in range(4):
        world.queued()
    held = {}
    for _ in range(30):
        with world.services() as s:
            s.work.session.execute(update(Job).values(not_before=None))
        verb = chance.choice(["claim", "claim", "train", "train", *VERBS])
        if verb == "claim":
            task = world.claim(OWNER)
            held |= {} if task is None else {task.job_id: task}
        elif held:
            task = held[chance.choice(sorted(held))]
            if verb == "train":
                train(world, task, chance.randrange(1, 100))
            else:
                del held[task.job_id]
                ENDS[verb](world, task)
    for task in held.values():
        call(world, "release", task)
    with world.services() as s:
        leases = list(s.work.session.scalars(select(GpuLease).order_by(GpuLease.started_at)))
        of_gpu = select(func.sum(UsageRecord.quantity)).where(UsageRecord.kind == Kind.GPU_SECONDS)
        paid = s.work.session.scalar(of_gpu)
    assert paid == pytest.approx(busy_seconds(leases), rel=0.01)


def busy_seconds(leases):
    """In which at least one of them was open."""
    total, until = 0.0, None
    for lease in leases:
        start = lease.started_at if until is None else max(lease.started_at, until)
        total += max(0.0, (lease.ended_at - start).total_seconds())
        until = lease.ended_at if until is None else max(until, lease.ended_at)
    return total
