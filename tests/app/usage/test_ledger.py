"""Every GPU-second of every path is in the ledger, once."""

import random
from contextlib import suppress
from datetime import timedelta

import psycopg
import pytest
from sqlalchemy import func, select, text, update

from app.contracts.errors import WorkerError
from app.db.tables import GpuLease, Job, UsageRecord, Worker
from app.errors import Conflict
from app.jobs.fencing import Fenced
from app.usage.kinds import Kind
from tests.support.job_world import adapter, metric

HOUR = 3600.0


def lines(world, object_id=None, kind=None):
    query = select(UsageRecord).order_by(UsageRecord.id)
    if object_id is not None:
        query = query.where(UsageRecord.object_id == object_id)
    if kind is not None:
        query = query.where(UsageRecord.kind == kind)
    with world.services() as s:
        return list(s.work.session.scalars(query))


def gpu_seconds(world, job_id):
    return [line.quantity for line in lines(world, job_id, Kind.GPU_SECONDS)]


def age_lease(world, job_id, seconds):
    """Let time pass: the claim lies so long back."""
    with world.services() as s:
        past = timedelta(seconds=seconds)
        s.work.session.execute(
            update(GpuLease)
            .where(GpuLease.job_id == job_id, GpuLease.ended_at.is_(None))
            .values(started_at=GpuLease.started_at - past)
        )


def expire(world, job_id, seconds_ago=1.0):
    with world.services() as s:
        s.work.session.execute(
            update(Job)
            .where(Job.id == job_id)
            .values(lease_until=func.clock_timestamp() - timedelta(seconds=seconds_ago))
        )


def add_worker(world, device, worker_id="host-0"):
    with world.services() as s:
        s.work.session.add(
            Worker(id=worker_id, incarnation="first", host="h", device=device, heartbeat_at=func.clock_timestamp())
        )


def finish(world, task):
    with world.services() as s:
        s.job_worker.record_metrics(task.job_id, task.fence, [metric(20)])
        s.job_worker.publish_checkpoint(task.job_id, task.fence, 20, adapter(task.job_id), None, is_final=True)
    with world.services() as s:
        s.job_worker.succeed(task.job_id, task.fence, trained_tokens=200)


WORKER_ERROR = WorkerError(kind="fatal", code="engine_bug", message="It broke.")
DEATH = WorkerError(kind="transient", code="worker_crashed", message="It died.")
ENDS = {
    "succeed": finish,
    "fail": lambda world, task: call(world, "fail", task, WORKER_ERROR),
    "crash": lambda world, task: call(world, "fail", task, DEATH),
    "release": lambda world, task: call(world, "release", task),
    "cancel": lambda world, task: stop(world, task, "cancel"),
    "pause": lambda world, task: stop(world, task, "pause"),
    "restart": lambda world, task: restart(world),
}


def call(world, verb, task, *more):
    with world.services() as s:
        getattr(s.job_worker, verb)(task.job_id, task.fence, *more)


def stop(world, task, verb):
    with world.services() as s:
        getattr(s.jobs, verb)(world.team, task.job_id)
    call(world, "release", task)


def restart(world):
    with world.services() as s:
        s.job_worker.release_previous("host-0", "second")


@pytest.mark.parametrize("end", sorted(ENDS))
def test_a_lease_is_in_the_ledger_from_claim_to_end_however_it_ends(world, end):
    task = world.running()
    age_lease(world, task.job_id, 100)
    ENDS[end](world, task)
    [seconds] = gpu_seconds(world, task.job_id)
    assert 100 <= seconds < 115
    assert world.job(task.job_id).usage["gpu_seconds"] == pytest.approx(seconds, abs=1e-5)


def test_a_lost_lease_is_counted_until_it_ran_out_not_until_somebody_noticed(world):
    task = world.running()
    age_lease(world, task.job_id, 600)
    expire(world, task.job_id, seconds_ago=500)
    with world.services() as s:
        assert s.job_worker.reap() == 1
    [seconds] = gpu_seconds(world, task.job_id)
    assert 100 <= seconds < 115


def test_a_lease_that_another_claim_takes_over_ends_where_that_begins(world):
    """Paused and resumed while held, then lost: the next claim may come before the reaper."""
    task = world.running()
    with world.services() as s:
        s.jobs.pause(world.team, task.job_id)
    with world.services() as s:
        s.jobs.resume(world.team, task.job_id)
    expire(world, task.job_id)
    second = world.claim("host-1/first")
    assert second.fence == task.fence + 1
    call(world, "release", second)
    with world.services() as s:
        first_lease, second_lease = s.work.session.scalars(select(GpuLease).order_by(GpuLease.fence))
    assert first_lease.ended_at == second_lease.started_at
    assert len(gpu_seconds(world, task.job_id)) == 2


def test_reading_files_takes_no_gpu(world):
    job_id = world.queued()
    assert gpu_seconds(world, job_id) == []
    assert world.job(job_id).usage is None


def test_a_stale_worker_writes_no_line(world):
    task = world.running()
    expire(world, task.job_id)
    with world.services() as s:
        s.job_worker.reap()
    with pytest.raises(Fenced):
        call(world, "release", task)
    assert len(gpu_seconds(world, task.job_id)) == 1


def test_all_gpus_of_a_worker_count_and_its_kind_is_named(world):
    add_worker(world, {"device": "cuda:0", "name": "NVIDIA H100", "gpus": 4})
    task = world.running()
    age_lease(world, task.job_id, 10)
    call(world, "release", task)
    [line] = lines(world, task.job_id, Kind.GPU_SECONDS)
    assert 40 <= line.quantity < 80
    assert line.device_kind == "NVIDIA H100"
    [energy] = lines(world, task.job_id, Kind.ENERGY_WH)
    assert energy.quantity == pytest.approx(line.quantity * 350 / 3600)


def test_trained_tokens_are_counted_once_over_retries(world):
    task = world.running()
    with world.services() as s:
        s.job_worker.record_metrics(task.job_id, task.fence, [metric(step) for step in range(1, 8)])
    call(world, "fail", task, DEATH)
    with world.services() as s:
        s.work.session.execute(update(Job).values(not_before=None))
    again = world.claim()
    with world.services() as s:
        s.job_worker.record_metrics(again.job_id, again.fence, [metric(step) for step in range(5, 20)])
    finish(world, again)
    found = [line.quantity for line in lines(world, task.job_id, Kind.TRAINED_TOKENS)]
    assert found == [70, 130]
    assert world.job(task.job_id).usage["tokens"] == 200


def test_the_ledger_can_be_neither_changed_nor_removed(world, servers):
    task = world.running()
    call(world, "release", task)
    for statement in ("UPDATE usage_records SET quantity = 0", "DELETE FROM usage_records", "TRUNCATE usage_records"):
        with (
            psycopg.connect(servers.database_url) as connection,
            pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"),
        ):
            connection.execute(statement)


def test_the_same_lease_cannot_be_written_twice(world):
    task = world.running()
    with world.services() as s:
        job = s.work.session.get_one(Job, task.job_id)
        s.usage_ledger.end_lease(job)
        s.usage_ledger.end_lease(job)
    call(world, "release", task)
    assert len(gpu_seconds(world, task.job_id)) == 1


class Lives:
    """Some jobs, and what can happen to them."""

    def __init__(self, world, seed):
        self.world = world
        self.chance = random.Random(seed)  # noqa: S311 - a seeded test
        self.job_ids = [world.queued() for _ in range(3)]
        self.tasks = {}

    def step(self):
        with self.world.services() as s:
            s.work.session.execute(update(Job).values(not_before=None))
        verb = self.chance.choice(["claim", "claim", "claim", "beat", "lose", "steer", "age", *ENDS])
        getattr(self, verb, lambda: self.end(verb))()
        return verb

    def claim(self):
        free = [f"host-{n}/first" for n in range(3) if not holds_any(self.world, f"host-{n}/first")]
        claimed = self.world.claim(self.chance.choice(free)) if free else None
        if claimed is not None:
            self.tasks[claimed.job_id] = claimed

    def held(self):
        found = [task for task in self.tasks.values() if is_held(self.world.job(task.job_id), task)]
        return self.chance.choice(found) if found else None

    def beat(self):
        task = self.held()
        if task is not None:
            call(self.world, "heartbeat", task)

    def lose(self):
        expire(self.world, self.chance.choice(self.job_ids))
        if self.chance.random() < 0.5:
            with self.world.services() as s:
                s.job_worker.reap()

    def steer(self):
        verb = self.chance.choice(["pause", "resume", "resume"])
        with suppress(Conflict), self.world.services() as s:
            getattr(s.jobs, verb)(self.world.team, self.chance.choice(self.job_ids))

    def age(self):
        age_lease(self.world, self.chance.choice(self.job_ids), self.chance.random() * HOUR)

    def end(self, verb):
        task = self.held()
        if task is not None:
            with suppress(Conflict):
                ENDS[verb](self.world, task)


def holds_any(world, owner):
    with world.services() as s:
        return s.work.session.scalar(select(func.count()).where(Job.owner == owner)) > 0


def is_held(job, task):
    return job.owner is not None and job.fence == task.fence


@pytest.mark.parametrize("seed", range(12))
def test_on_any_path_the_ledger_is_the_sum_of_the_leases(world, seed):
    """Random lives of some jobs; after every step the ledger, the leases and the jobs tell the same story."""
    lives = Lives(world, seed)
    for number in range(40):
        verb = lives.step()
        check(world, f"seed {seed}, step {number}: {verb}")
    assert len(lines(world, kind=Kind.GPU_SECONDS)) >= 3


def check(world, where):
    with world.services() as s:
        session = s.work.session
        jobs = {job.id: job for job in session.scalars(select(Job))}
        leases = list(session.scalars(select(GpuLease)))
        records = list(session.scalars(select(UsageRecord).where(UsageRecord.kind == Kind.GPU_SECONDS)))
        for job in jobs.values():
            open_fences = [lease.fence for lease in leases if lease.job_id == job.id and lease.ended_at is None]
            assert open_fences == ([job.fence] if job.owner is not None else []), where
        closed = {
            # A later holder on another worker may have ended it before it ran out: then it took no time of that.
            f"{lease.job_id}/{lease.fence}": (lease.ended_at - lease.started_at).total_seconds() * lease.gpus
            for lease in leases
            if lease.ended_at is not None
        }
        assert {record.source: record.quantity for record in records} == pytest.approx(closed), where
        assert len(records) == len(closed), where
        overlapping = session.scalar(
            text(
                "SELECT count(*) FROM gpu_leases a JOIN gpu_leases b ON a.job_id = b.job_id AND a.fence < b.fence "
                "WHERE coalesce(a.ended_at, 'infinity') > b.started_at AND b.ended_at IS NULL AND a.ended_at IS NULL"
            )
        )
        assert overlapping == 0, where
