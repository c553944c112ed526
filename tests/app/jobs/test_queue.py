"""`GET /v1/fine_tuning/jobs/{id}/queue`: place, reason and forecast."""

from datetime import timedelta

import pytest

from app.db.tables import Job
from app.jobs.speeds import Measured, Speeds, Work
from app.pool.service import WorkerCard
from tests.support.job_world import clients_world, metric


@pytest.fixture
def world(services, api_key):
    world = clients_world(services, api_key)
    with services() as s:
        s.pool.register_worker(WorkerCard("gpu0", "x", "host", {}))
    return world


def ask(client, job_id):
    answer = client.get(f"/v1/fine_tuning/jobs/{job_id}/queue")
    assert answer.status_code == 200, answer.text
    return answer.json()


def measure(world, seconds):
    """A job of the base that took so long from start to end; its rows are those of `world.queued`."""
    with world.services() as s:
        task = s.job_worker.claim_training("gpu0/x")
        job = s.work.session.get(Job, task.job_id)
        job.claimed_at = job.started_at = job.started_at - timedelta(seconds=seconds)
        job.status, job.owner, job.finished_at = "succeeded", None, job.started_at + timedelta(seconds=seconds)


def test_a_job_that_is_next_starts_now_if_a_worker_is_free(world, client):
    body = ask(client, world.queued())
    assert (body["position"], body["jobs_before"], body["estimated_start_basis"]) == (1, 0, "free_worker")
    assert body["reason"].startswith("The job is next")
    assert body["estimated_start"] is not None


def test_without_any_measurement_there_is_no_forecast_but_a_reason(world, client):
    world.queued()
    assert world.claim("gpu0/x") is not None
    body = ask(client, world.queued())
    assert body["estimated_start"] is None
    assert body["estimated_start_reason"] == (
        "No training of the base 'tiny' has been measured yet, and a job that runs is one."
    )


def test_the_forecast_follows_what_earlier_jobs_took(world, client, services):
    world.queued()
    measure(world, 100.0)
    running = world.queued()
    assert world.claim("gpu0/x").job_id == running
    first, second = world.queued(), world.queued()
    with services() as s:
        now = s.jobs.get(world.team, second).created_at.timestamp()
    starts = [ask(client, job_id)["estimated_start"] - now for job_id in (first, second)]
    assert starts == [pytest.approx(100, abs=5), pytest.approx(200, abs=5)]
    assert ask(client, second)["estimated_start_basis"] == "simulation"
    assert (ask(client, second)["own_jobs_before"], ask(client, second)["other_jobs_before"]) == (1, 0)


def test_the_engines_own_estimate_of_a_running_job_counts_more(world, client, services):
    world.queued()
    task = world.claim("gpu0/x")
    with services() as s:
        s.job_worker.record_metrics(task.job_id, task.fence, [metric(1, eta_seconds=1000.0)])
    waits = world.queued()
    with services() as s:
        now = s.jobs.get(world.team, waits).created_at.timestamp()
    assert ask(client, waits)["estimated_start"] - now == pytest.approx(1000, abs=5)


def test_a_job_that_does_not_wait_has_no_place(world, client, services):
    validating = world.submit()
    assert ask(client, validating)["reason"].startswith("Its files are read")
    assert world.validate() == validating
    assert world.claim("gpu0/x").job_id == validating
    body = ask(client, validating)
    assert (body["status"], body["position"], body["reason"]) == ("running", None, "The job runs on gpu0.")
    with services() as s:
        s.jobs.cancel(world.team, validating)
    assert ask(client, validating)["reason"] == "The job is over."


def test_another_teams_job_is_not_found(world, client):
    theirs = world.queued(world.add_team("umbrella"))
    assert client.get(f"/v1/fine_tuning/jobs/{theirs}/queue").status_code == 404


def test_a_speed_is_the_median_for_each_row_and_what_a_checkpoint_saved_is_left_out():
    speeds = Speeds([Measured("b", "training", 10, seconds) for seconds in (10.0, 20.0, 900.0)])
    assert speeds.seconds_of(Work("b", "training", 50)) == 100.0
    assert speeds.seconds_of(Work("b", "training", 50, done_share=0.75)) == 25.0
    assert speeds.seconds_of(Work("b", "evaluation", 50)) is None
