"""Preemption and draining on a real database: marked once, said in words, heard at the heartbeat."""

import dataclasses

import pytest

from app.identity.policy import Role
from app.pool.service import WorkerCard
from tests.support.job_world import JobWorld, clients_world


@pytest.fixture
def world(services, context):
    """Four workers, all of them with jobs of one team, and another team."""
    world = JobWorld(services)
    with services() as s:
        for number in range(4):
            s.pool.register_worker(WorkerCard(f"gpu{number}", "x", "host", {}, memory_bytes=10**10, bases=("tiny",)))
    world.tasks = []
    for number in range(4):
        world.queued()
        world.tasks.append(world.claim(f"gpu{number}/x"))
    world.other = world.add_team("umbrella")
    return world


def rest_is_over(world):
    """As if everything had begun an hour ago."""
    with world.services() as s:
        for task in world.tasks:
            job = s.work.session.get(type(world.job(task.job_id)), task.job_id)
            job.claimed_at = job.claimed_at.replace(year=2020)


def make_way(world):
    with world.services() as s:
        return s.job_worker.make_way()


def heartbeats(world):
    with world.services() as s:
        return {task.job_id: str(s.job_worker.heartbeat(task.job_id, task.fence)) for task in world.tasks}


def test_one_job_of_the_team_above_its_share_is_told_at_its_heartbeat(world):
    rest_is_over(world)
    world.queued(world.other)
    assert not make_way(world), "a normal priority has no claim on what runs"
    urgent = world.queued(world.other, priority="high")
    assert make_way(world)
    assert not make_way(world), "one at a time"
    told = [job_id for job_id, directive in heartbeats(world).items() if directive == "preempt"]
    assert len(told) == 1
    task = next(task for task in world.tasks if task.job_id == told[0])
    with world.services() as s:
        s.job_worker.release(task.job_id, task.fence)
    job = world.job(task.job_id)
    assert (job.status, job.attempts, job.preempt_reason) == ("queued", 0, None)
    assert world.messages(task.job_id)[-1] == (
        "The job makes way. A job of high priority of another team had the higher claim and no worker was free for it: "
        "that team uses 0 of the 2.0 GPUs of its share, yours 4 of 2.0. It waits in the queue and goes on from its "
        "last checkpoint"
    )
    assert world.claim("gpu3/x").job_id == urgent


def test_nobody_makes_way_before_the_rest_is_over(world):
    world.queued(world.other, priority="high")
    assert not make_way(world)


def test_a_job_that_made_way_and_runs_again_is_left_alone_for_a_while(world):
    rest_is_over(world)
    world.queued(world.other, priority="high")
    assert make_way(world)
    victims = [job_id for job_id, directive in heartbeats(world).items() if directive == "preempt"]
    with world.services() as s:
        for task in world.tasks:
            s.work.session.get(type(world.job(task.job_id)), task.job_id).preempt_reason = None
    assert make_way(world)
    again = [job_id for job_id, directive in heartbeats(world).items() if directive == "preempt"]
    assert again
    assert again != victims


def test_a_drained_worker_claims_nothing_and_a_resumed_one_does(world):
    world.queued(world.other)
    with world.services() as s:
        s.job_worker.release(world.tasks[0].job_id, world.tasks[0].fence)
        s.pool.drain(world.team, "gpu0", checkpoint=False)
    assert world.claim("gpu0/x") is None
    with world.services() as s:
        s.pool.undrain(world.team, "gpu0")
    assert world.claim("gpu0/x") is not None


def test_a_worker_gets_no_job_of_a_base_that_is_not_on_its_disk(world):
    with world.services() as s:
        s.pool.register_worker(WorkerCard("gpu4", "x", "host", {}, bases=("another",)))
    job_id = world.queued()
    assert world.claim("gpu4/x") is None
    with world.services() as s:
        s.pool.heartbeat_worker("gpu4", "x", resident_base=None, bases=("another", "tiny"))
    assert world.claim("gpu4/x").job_id == job_id


def test_the_pool_names_own_jobs_only(services, api_key, client):
    world = clients_world(services, api_key)
    other = world.add_team("umbrella")
    with services() as s:
        for number in range(3):
            s.pool.register_worker(WorkerCard(f"gpu{number}", "x", "host", {}, gpus=1, compute_capability=90))
    mine, theirs = world.queued(), world.queued(other)
    taken = {world.claim(f"gpu{number}/x").job_id: f"gpu{number}" for number in range(2)}
    world.queued(other)
    with services() as s:
        s.identity.create_key(world.team.team_id, "reader", Role.VIEWER, actor="test")
        viewer = dataclasses.replace(world.team, role=Role.VIEWER)
        view = s.pool.view(viewer)
    shown = {worker.worker_id: (worker.state, [run.job_id for run in worker.runs]) for worker in view.workers}
    assert shown == {taken[mine]: ("busy", [mine]), taken[theirs]: ("busy", [None]), "gpu2": ("idle", [])}
    assert [(team.team_id, team.use.gpus, team.use.waiting) for team in view.teams] == [
        (world.team.team_id, 1, 0),
        (None, 1, 1),
    ]
    body = client.get("/v1/pool").json()
    assert body["utilisation"] == {"gpus": 3, "busy": 2, "share": pytest.approx(2 / 3)}
    assert {worker["job"]["id"] for worker in body["workers"] if worker["job"]} == {mine, theirs}, "for the operator"
    assert body["workers"][0]["compute_capability"] == "9.0"


def test_draining_over_http_is_the_operators(services, api_key, client):
    world = clients_world(services, api_key)
    with services() as s:
        s.pool.register_worker(WorkerCard("gpu0@host", "x", "host", {}))
    assert client.post("/v1/pool/workers/gpu0@host/drain").json()["status"] == "draining"
    assert client.post("/v1/pool/workers/gpu0@host/drain", json={"checkpoint": True}).json()["drain"] == "checkpoint"
    assert client.post("/v1/pool/workers/gpu0@host/resume").json()["status"] == "idle"
    assert client.post("/v1/pool/workers/nobody/drain").status_code == 404
    with services() as s:
        key = s.identity.create_key(world.team.team_id, "admin", Role.ADMIN, actor="test")[1]
    client.headers["Authorization"] = f"Bearer {key}"
    assert client.post("/v1/pool/workers/gpu0@host/drain").status_code == 403
