"""Claims on a real database: each job once, fairly, and never behind the back of its owner."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from app.contracts.tasks import Queue
from app.db.tables import Job
from app.jobs.fencing import Fenced
from app.pool.repository import PoolRepository
from app.pool.service import WorkerCard, is_ring_due
from tests.support.job_world import adapter


def test_twenty_workers_at_once_claim_each_job_exactly_once(world):
    jobs = {world.queued() for _ in range(12)}
    barrier = threading.Barrier(20)

    def worker(number):
        barrier.wait()
        claimed = []
        while (task := world.claim(f"host-{number}/first")) is not None:
            claimed.append((task.job_id, task.fence))
        return claimed

    with ThreadPoolExecutor(20) as threads:
        claims = [claim for claims in threads.map(worker, range(20)) for claim in claims]
    assert Counter(job_id for job_id, _ in claims) == Counter(jobs)
    assert {fence for _, fence in claims} == {2}, "one fence for validation, one for training"


def test_a_claim_that_meets_another_waits_and_then_sees_what_it_took(world):
    other = world.add_team("umbrella")
    mine, also_mine, theirs = world.queued(), world.queued(), world.queued(other)
    started = threading.Event()

    def second():
        started.set()
        return world.claim("host-1/first")

    with ThreadPoolExecutor(1) as threads:
        with world.services() as s:
            assert s.job_worker.claim_training("host-0/first").job_id == mine
            late = threads.submit(second)
            assert started.wait(5)
            # The other claim is under way and cannot be done before this one is committed.
            threading.Event().wait(0.2)
            assert not late.done()
        assert late.result(timeout=10).job_id == theirs
    assert world.job(also_mine).status == "queued"


def hold(world, job_id):
    """As a job that was paused and resumed while its worker still saves: it waits, and is held."""
    with world.services() as s:
        job = s.work.session.get(Job, job_id)
        job.owner, job.lease_until = "host-9/first", job.created_at + timedelta(hours=1)


def test_a_job_that_waits_but_is_held_is_passed_over_for_the_next(world):
    held, free = world.queued(), world.queued()
    hold(world, held)
    assert world.claim("host-0/first").job_id == free
    assert world.claim("host-1/first") is None


def test_a_job_that_is_held_since_the_snapshot_cannot_be_taken(world):
    job_id = world.queued()
    hold(world, job_id)
    before = world.job(job_id)
    with world.services() as s:
        pool = PoolRepository(s.work.session)
        taken = pool.take(job_id, "host-0/first", from_status="queued", to_status="running", lease_seconds=30)
    assert taken is None
    assert (world.job(job_id).owner, world.job(job_id).fence) == (before.owner, before.fence)


def test_a_stale_write_that_waits_for_the_row_is_refused_when_the_lease_changed_meanwhile(world):
    """The forced order: the stale worker's write begins before, and ends after, the reaper's commit."""
    refused = 0
    for _ in range(20):
        task = world.running()
        started = threading.Event()

        def stale(task=task, started=started):
            started.set()
            try:
                with world.services() as s:
                    s.job_worker.publish_checkpoint(task.job_id, task.fence, 1, adapter(), None, is_final=True)
            except Fenced:
                return True
            return False

        with ThreadPoolExecutor(1) as threads:
            with world.services() as s:
                job = s.work.session.get(Job, task.job_id)
                job.lease_until = job.created_at
                s.work.session.flush()
                late = threads.submit(stale)
                assert started.wait(5)
                assert s.job_worker.reap() == 1
            refused += late.result(timeout=10)
        assert world.job(task.job_id).tuned_model_id is None
        with world.services() as s:
            s.jobs.cancel(world.team, task.job_id)
    assert refused == 20


def test_a_cancel_that_races_with_a_claim_leaves_no_running_job(world):
    for _ in range(10):
        job_id = world.queued()
        barrier = threading.Barrier(2)

        def cancel(job_id=job_id, barrier=barrier):
            barrier.wait()
            with world.services() as s:
                s.jobs.cancel(world.team, job_id)

        def claim(barrier=barrier):
            barrier.wait()
            return world.claim()

        with ThreadPoolExecutor(2) as threads:
            done = threads.submit(cancel)
            claimed = threads.submit(claim).result(timeout=10)
            done.result(timeout=10)
        assert world.job(job_id).status == "cancelled"
        if claimed is not None:
            with world.services() as s:
                assert s.job_worker.heartbeat(claimed.job_id, claimed.fence) == "cancel"
                s.job_worker.release(claimed.job_id, claimed.fence)


def test_teams_take_turns(world):
    other = world.add_team("umbrella")
    first, second = world.queued(), world.queued()
    theirs = world.queued(other)
    assert [world.claim(f"host-{n}/x").job_id for n in range(3)] == [first, theirs, second]


def test_priority_orders_the_jobs_of_a_team(world):
    normal, urgent, low = world.queued(), world.queued(priority="high"), world.queued(priority="low")
    assert [world.claim(f"host-{n}/x").job_id for n in range(3)] == [urgent, normal, low]


def test_a_back_off_keeps_a_job_out_until_it_is_over(world):
    job_id = world.queued()
    with world.services() as s:
        job = s.work.session.get(Job, job_id)
        job.not_before = job.created_at.replace(year=2100)
    assert world.claim() is None
    with world.services() as s:
        assert s.jobs.queue_hint(s.jobs.get(world.team, job_id)).message.startswith("The job waits a moment")


class Bells:
    """Collects what a unit of work would ring."""

    def __init__(self, work):
        self.rung = []
        work.ring = self.rung.append


def test_the_tick_rings_for_work_that_waits(world):
    with world.services() as s:
        bells = Bells(s.work)
        s.job_worker.tick()
        assert bells.rung == []
    world.submit()
    with world.services() as s:
        bells = Bells(s.work)
        s.job_worker.tick()
        assert bells.rung == [Queue.CPU]
    world.validate()
    with world.services() as s:
        bells = Bells(s.work)
        s.job_worker.tick()
        assert bells.rung == [Queue.GPU]
    world.claim()
    with world.services() as s:
        bells = Bells(s.work)
        s.job_worker.tick()
        assert bells.rung == []


def test_an_old_job_is_rung_for_at_every_tick_while_a_worker_is_idle(world):
    job_id = world.queued()
    with world.services() as s:
        job = s.work.session.get(Job, job_id)
        job.created_at = job.created_at.replace(year=2020, second=0)
        s.pool.register_worker(WorkerCard("host-0", "first", "host", {"name": "cpu"}))
    with world.services() as s:
        bells = Bells(s.work)
        s.pool.ring_waiting()
        assert bells.rung == [Queue.GPU]


def test_bells_that_nobody_hears_become_rare():
    assert is_ring_due(1.0, 2.0)
    assert not is_ring_due(100.0, 2.0)
    assert is_ring_due(121.0, 2.0)


def test_a_worker_says_why_it_claims_nothing_and_is_not_counted_on(world, client, services):
    card = WorkerCard("host-0", "first", "host", {"name": "cpu"})
    with world.services() as s:
        s.pool.register_worker(card)
        s.pool.heartbeat_worker("host-0", "first", resident_base=None, unready="Its disk is full.")
    (worker,) = client.get("/v1/pool").json()["workers"]
    assert (worker["status"], worker["unready"]) == ("unready", "Its disk is full.")
    job_id = world.queued()
    with services() as s:
        standing = s.job_queue.standing(world.team, job_id)
        assert (standing.forecast.start, standing.forecast.reason) == (None, "No worker of the pool is there.")
        s.pool.heartbeat_worker("host-0", "first", resident_base=None)
    (worker,) = client.get("/v1/pool").json()["workers"]
    assert (worker["status"], worker["unready"]) == ("idle", None)
    with services() as s:
        assert s.job_queue.standing(world.team, job_id).forecast.start is not None


def test_the_pool_shows_workers_and_jobs(world, client):
    with world.services() as s:
        s.pool.register_worker(WorkerCard("host-0", "first", "host", {"name": "cpu"}))
        s.pool.register_worker(WorkerCard("host-1", "first", "host", {"name": "cpu"}))
        s.pool.heartbeat_worker("host-1", "an old one", resident_base="x")
    world.running()
    world.queued()
    body = client.get("/v1/pool").json()
    assert [(worker["id"], worker["status"]) for worker in body["workers"]] == [("host-0", "busy"), ("host-1", "idle")]
    assert body["jobs"] == {"queued": {"total": 1, "own": 0}, "running": {"total": 1, "own": 0}}
    with world.services() as s:
        s.pool.forget_worker("host-1", "first")
    assert len(client.get("/v1/pool").json()["workers"]) == 1
