"""What requests of one process share for a moment: the queue that a waiting job is told of, what estimates rest on."""

from dataclasses import replace

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import event

from app.main import create_app
from app.pool.service import WorkerCard
from app.recent import Recent
from tests.support.job_world import clients_world


@pytest.fixture
def world(services, api_key):
    world = clients_world(services, api_key)
    with services() as s:
        s.pool.register_worker(WorkerCard("gpu0", "x", "host", {}))
    return world


@pytest.fixture
def moment():
    return [100.0]


@pytest.fixture
def sharing(context, api_key, moment):
    """A client of a process that shares for a second of `moment`."""
    api = create_app(replace(context, recent=Recent(1.0, clock=lambda: moment[0])))
    with TestClient(api) as client:
        client.headers["authorization"] = f"Bearer {api_key}"
        yield client


def hint(client, job_id):
    answer = client.get(f"/v1/fine_tuning/jobs/{job_id}")
    assert answer.status_code == 200, answer.text
    return answer.json()["queue"]


def counting(context):
    """A list that grows by each statement."""
    statements = []
    event.listen(context.database.engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    return statements


def test_jobs_that_waited_already_share_a_look_at_the_queue(world, sharing, context):
    first, second = world.queued(), world.queued()
    hint(sharing, first)
    statements = counting(context)
    assert hint(sharing, second)["jobs_before"] == 1
    assert len(statements) == 2, statements


def test_a_look_is_as_old_as_a_second_and_no_older(world, sharing, moment, services):
    job_id = world.queued()
    alone = hint(sharing, job_id)["message"]
    with services() as s:
        s.pool.register_worker(WorkerCard("gpu0", "y", "host", {}, bases=("another base",)))
    assert hint(sharing, job_id)["message"] == alone
    moment[0] += 1.0
    assert hint(sharing, job_id)["message"] != alone


def test_a_job_that_came_after_the_look_is_told_of_the_queue_as_it_is(world, sharing):
    hint(sharing, world.queued())
    world.queued(world.add_team("umbrella"))
    later = world.queued()
    assert hint(sharing, later)["jobs_before"] == 2


def test_the_jobs_own_place_is_always_of_now(world, sharing, services):
    first, second = world.queued(), world.queued()
    assert hint(sharing, second)["jobs_before"] == 1
    with services() as s:
        s.jobs.cancel(world.team, first)
    assert hint(sharing, second)["jobs_before"] == 0


def test_an_estimate_shares_what_it_rests_on_and_not_the_prices(world, sharing, context):
    body = {"model": "tiny", "training_file": world.job(world.queued()).training_file}
    assert sharing.post("/v1/fine_tuning/jobs/estimate", json=body).status_code == 200
    statements = counting(context)
    assert sharing.post("/v1/fine_tuning/jobs/estimate", json=body).status_code == 200
    assert not any("FROM workers" in one or "gpu_leases" in one for one in statements)
    assert any("FROM prices" in one for one in statements)
