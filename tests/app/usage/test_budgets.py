"""Budgets: refused at the door, warned of, enforced; reservations that never leak; storage exact to the byte."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from app.context import open_context
from app.db.tables import File, GpuReservation, PendingArtifact, UsageRecord, WebhookDelivery
from app.errors import QuotaExceeded
from app.factory import Services
from app.identity.policy import Role
from app.jobs.schemas import JobCreate
from app.usage.budgets import LEAST_RESERVED_SECONDS, month_of
from app.usage.kinds import Kind
from tests.app.usage.test_ledger import ENDS, Lives, age_lease, call
from tests.support.job_world import chat_rows
from workers.supervisor.round import ControlRounds


@pytest.fixture
def set_budget(client, world):
    def put(**limits):
        answer = client.post(f"/v1/organization/projects/{world.team.team_id}/budget", json=limits)
        assert answer.status_code == 200, answer.text
        return answer.json()

    return put


@pytest.fixture
def budget(client, world):
    return lambda: client.get(f"/v1/organization/projects/{world.team.team_id}/budget").json()


@pytest.fixture
def used(world):
    """So much was used already in this month."""

    def add(gpu_seconds, cost="0"):
        with world.services() as s:
            now = datetime.now(UTC)
            add.count += 1
            s.work.session.add(
                UsageRecord(
                    team_id=world.team.team_id,
                    member="key:k",
                    object_id=None,
                    kind=Kind.GPU_SECONDS,
                    source=f"used/{add.count}",
                    quantity=gpu_seconds,
                    started_at=now,
                    ended_at=now,
                    cost=cost,
                )
            )

    add.count = 0
    return add


def reservations(world):
    with world.services() as s:
        return {row.job_id: row.gpu_seconds for row in s.work.session.scalars(select(GpuReservation))}


def enforce(world):
    with world.services() as s:
        return s.job_worker.enforce_budgets()


def test_a_job_without_room_in_the_budget_is_refused_with_numbers_and_makes_nothing(client, world, set_budget, used):
    set_budget(gpu_seconds_per_month=1000)
    used(900)
    first = world.submit()
    body = {"model": world.base_id, "training_file": world.job(first).training_file}
    answer = client.post("/v1/fine_tuning/jobs", json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["type"]) == (429, "budget_exceeded", "insufficient_quota")
    assert "900 are used, 60 are reserved by open jobs, and it is expected to take 60" in error["message"]
    assert answer.headers["x-should-retry"] == "false"
    assert set(reservations(world)) == {first}
    assert len(client.get("/v1/fine_tuning/jobs").json()["data"]) == 1
    with world.services() as s:
        s.jobs.cancel(world.team, first)
    assert client.post("/v1/fine_tuning/jobs", json=body).status_code == 200


def test_money_is_a_limit_too(client, world, set_budget, used):
    set_budget(cost_per_month=5)
    used(1, cost="5")
    body = {"model": world.base_id, "training_file": world.add_file(chat_rows(30))}
    answer = client.post("/v1/fine_tuning/jobs", json=body)
    assert answer.json()["error"]["code"] == "budget_exceeded"
    assert "5.00 USD" in answer.json()["error"]["message"]


def test_exactly_so_many_parallel_submits_are_let_in_as_the_budget_has_room_for(world, set_budget, settings):
    set_budget(gpu_seconds_per_month=7 * LEAST_RESERVED_SECONDS)
    file_id = world.add_file(chat_rows(30))
    context = open_context(settings.model_copy(update={"database_pool_size": 10}))

    def submit(_):
        try:
            with context.database.unit_of_work() as work:
                body = {"model": world.base_id, "training_file": file_id}
                Services(context, work).jobs.submit(world.team, JobCreate.model_validate(body))
        except QuotaExceeded:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        taken = sum(pool.map(submit, range(50)))
    context.close()
    assert taken == 7
    assert len(reservations(world)) == 7


@pytest.mark.parametrize("end", sorted(ENDS))
def test_after_an_end_nothing_is_reserved_and_after_a_retry_the_rest_is(world, budget, end):
    task = world.running()
    age_lease(world, task.job_id, 20)
    ENDS[end](world, task)
    held = 0 if end in {"succeed", "fail", "cancel", "pause"} else LEAST_RESERVED_SECONDS
    assert reservations(world) == ({task.job_id: held} if held else {})
    found = budget()
    assert 20 <= found["used"]["gpu_seconds"] < 35
    assert found["reserved"]["gpu_seconds"] == pytest.approx(max(0, held - found["used"]["gpu_seconds"]) if held else 0)


def test_what_a_running_job_has_used_is_taken_off_what_it_holds(world, budget):
    task = world.running()
    age_lease(world, task.job_id, 40)
    found = budget()
    assert 40 <= found["used"]["gpu_seconds"] < 55
    assert found["used"]["gpu_seconds"] + found["reserved"]["gpu_seconds"] == pytest.approx(60, abs=2)
    age_lease(world, task.job_id, 100)
    assert budget()["reserved"]["gpu_seconds"] == 0


@pytest.mark.parametrize("seed", range(8))
def test_on_any_path_exactly_the_open_jobs_hold_a_reservation(world, seed):
    lives = Lives(world, seed)
    for number in range(40):
        verb = lives.step()
        wanted = {
            job_id
            for job_id in lives.job_ids
            if world.job(job_id).status not in {"succeeded", "failed", "cancelled", "paused"}
        }
        assert set(reservations(world)) == wanted, f"seed {seed}, step {number}: {verb}"


def test_a_paused_job_is_resumed_only_if_there_is_room(client, world, set_budget, used):
    task = world.running()
    ENDS["pause"](world, task)
    set_budget(gpu_seconds_per_month=100)
    used(50)
    path = f"/v1/fine_tuning/jobs/{task.job_id}/resume"
    assert client.post(path).json()["error"]["code"] == "budget_exceeded"
    assert world.job(task.job_id).status == "paused"
    set_budget(gpu_seconds_per_month=200)
    assert client.post(path).json()["status"] == "queued"
    assert set(reservations(world)) == {task.job_id}


def test_a_warning_goes_out_once_a_month_to_the_webhook_and_to_the_jobs(client, world, set_budget, used):
    body = {"name": "n", "url": "https://hooks.example.com/", "event_types": ["budget.warned", "budget.exceeded"]}
    client.post("/v1/webhook_endpoints", json=body)
    set_budget(gpu_seconds_per_month=1000, warn_at=0.5)
    task = world.running()
    assert enforce(world) == 0
    used(600)
    for _ in range(3):
        assert enforce(world) == 0
    assert sum("nearly used up" in message for message in world.messages(task.job_id)) == 1
    assert world.job(task.job_id).status == "running"
    with world.services() as s:
        sent = [json.loads(row.body) for row in s.work.session.scalars(select(WebhookDelivery))]
    assert [(event["type"], event["data"]["id"]) for event in sent] == [("budget.warned", world.team.team_id)]
    used(500)
    assert enforce(world) == 1
    with world.services() as s:
        assert {row.event_type for row in s.work.session.scalars(select(WebhookDelivery))} == {
            "budget.warned", "budget.exceeded",
        }  # fmt: skip


def test_at_the_limit_jobs_are_paused_with_the_reason_and_keep_their_checkpoint(world, set_budget, used):
    running, waiting = world.running(), world.queued()
    set_budget(gpu_seconds_per_month=1000)
    stranger = world.add_team("stranger")
    strangers = world.queued(stranger)
    used(999)
    age_lease(world, running.job_id, 5)
    assert enforce(world) == 2
    assert enforce(world) == 0
    assert [world.job(job_id).status for job_id in (running.job_id, waiting, strangers)] == [
        "paused",
        "paused",
        "queued",
    ]
    assert any("by the team's budget" in message for message in world.messages(running.job_id))
    with world.services() as s:
        assert s.job_worker.heartbeat(running.job_id, running.fence) == "pause"
        s.job_worker.record_resume_checkpoint(running.job_id, running.fence, 4, "jobs/x", "0" * 64)
    call(world, "release", running)
    assert world.job(running.job_id).resume_checkpoint["step"] == 4


def test_the_control_role_enforces(world, set_budget, used, context):
    task = world.running()
    set_budget(gpu_seconds_per_month=10)
    used(10)
    ControlRounds(context).run()
    assert world.job(task.job_id).status == "paused"


def test_uploads_beyond_the_quota_are_refused_exactly_under_fifty_at_once(world, set_budget, settings):
    size = 1000
    stored = 3 * size
    for _ in range(3):
        world.add_file(b"x" * size, purpose="user_data", filename="a.txt")
    set_budget(storage_bytes=stored + 10 * size + size - 1)
    context = open_context(settings.model_copy(update={"database_pool_size": 10}))
    gate = threading.Barrier(16)

    def upload(number):
        if number < 16:
            gate.wait(20)
        try:
            with context.database.unit_of_work() as work:
                Services(context, work).files.create_from_stream(
                    world.team.team_id, world.team.actor, iter([b"x" * size]), filename="a.txt", purpose="user_data"
                )
        except QuotaExceeded as error:
            return error.code
        return "stored"

    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(upload, range(50)))
    context.close()
    assert (found.count("stored"), found.count("storage_quota_exceeded")) == (10, 40)
    with world.services() as s:
        assert sum(s.work.session.scalars(select(File.bytes))) == stored + 10 * size
        assert s.work.session.scalars(select(PendingArtifact)).all() == []
    folder = settings.artifacts_url.removeprefix("file://")
    assert sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()) == stored + 10 * size


def test_an_upload_in_parts_counts_once_and_its_results_are_never_refused(client, world, set_budget):
    data = chat_rows(30)
    set_budget(storage_bytes=len(data) + 10)
    upload = client.post(
        "/v1/uploads",
        json={"filename": "a.jsonl", "purpose": "fine-tune", "bytes": len(data), "mime_type": "application/jsonl"},
    ).json()
    part = client.post(f"/v1/uploads/{upload['id']}/parts", files={"data": data}).json()
    refused = client.post("/v1/files", data={"purpose": "user_data"}, files={"file": ("b.txt", b"y" * 11)})
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "storage_quota_exceeded")
    done = client.post(f"/v1/uploads/{upload['id']}/complete", json={"part_ids": [part["id"]]})
    assert done.status_code == 200, done.text
    with world.services() as s:
        s.files.create_from_stream(
            world.team.team_id, "system", iter([b"z" * 100]), filename="r.csv", purpose="fine-tune-results"
        )
    assert client.delete(f"/v1/files/{done.json()['file']['id']}").status_code == 200
    again = client.post("/v1/files", data={"purpose": "user_data"}, files={"file": ("b.txt", b"y" * 11)})
    assert again.status_code == 200


def test_a_budget_is_the_operators_to_set_and_an_admins_own_to_read(client, world, services, set_budget, budget):
    assert budget()["gpu_seconds_per_month"] is None
    set_budget(gpu_seconds_per_month=5, cost_per_month=2.5)
    found = set_budget(gpu_seconds_per_month=None, storage_bytes=7)
    assert (found["gpu_seconds_per_month"], found["cost_per_month"], found["storage_bytes"]) == (None, 2.5, 7)
    with services() as s:
        team = s.identity.create_team("Own", "own")
        _, key = s.identity.create_key(team.id, "k", Role.ADMIN)
    headers = {"Authorization": f"Bearer {key}"}
    own, foreign = (f"/v1/organization/projects/{team_id}/budget" for team_id in (team.id, world.team.team_id))
    assert client.get(own, headers=headers).json()["storage_bytes"] is None
    assert client.post(own, headers=headers, json={}).status_code == 403
    absent = client.get("/v1/organization/projects/team_none/budget", headers=headers)
    hidden = client.get(foreign, headers=headers)
    assert absent.status_code == hidden.status_code == 404
    assert absent.text.replace("team_none", "") == hidden.text.replace(world.team.team_id, "")
    assert client.post("/v1/organization/projects/team_none/budget", json={}).status_code == 404
    for wrong in ({"warn_at": 0}, {"warn_at": 2}, {"storage_bytes": -1}, {"gpu_seconds_per_month": "1"}):
        assert client.post(own, json=wrong).status_code == 400


def test_a_month_ends_at_midnight_utc():
    assert month_of(datetime(2026, 12, 31, 23, 59, tzinfo=UTC)) == (
        datetime(2026, 12, 1, tzinfo=UTC),
        datetime(2027, 1, 1, tzinfo=UTC),
    )
    assert month_of(datetime(2026, 2, 1, tzinfo=UTC))[1] - timedelta(days=28) == datetime(2026, 2, 1, tzinfo=UTC)
