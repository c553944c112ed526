"""What a team may have of the pool: set by the operator, kept at the door and at the claim."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.errors import QuotaExceeded
from app.identity.policy import Role
from tests.support.job_world import clients_world

DEFAULTS = {"weight": 1.0, "max_gpus": None, "max_queued_jobs": None, "may_share": True}


@pytest.fixture
def world(services, api_key):
    """The team of the client."""
    return clients_world(services, api_key)


def limits(team_id):
    return f"/v1/organization/projects/{team_id}/limits"


def set_limits(world, **changes):
    operator = world.team
    with world.services() as s:
        s.limits.change(operator, world.team.team_id, changes)


def key_of(world, role):
    with world.services() as s:
        return s.identity.create_key(world.team.team_id, "a key", role, actor="test")[1]


def test_a_team_without_limits_has_the_defaults(world, client):
    body = client.get(limits(world.team.team_id)).json()
    assert body == {"object": "organization.project.limits", "project_id": world.team.team_id, **DEFAULTS}


def test_the_operator_sets_what_is_named_and_leaves_the_rest(world, client):
    other = world.add_team("umbrella").team_id
    assert client.post(limits(other), json={"weight": 2.5, "max_gpus": 4}).json()["max_gpus"] == 4
    client.post(limits(other), json={"max_gpus": None, "max_queued_jobs": 10}).raise_for_status()
    assert client.get(limits(other)).json() == {
        "object": "organization.project.limits",
        "project_id": other,
        **DEFAULTS,
        "weight": 2.5,
        "max_queued_jobs": 10,
    }
    with world.services() as s:
        page = s.audit.page(other, object_id=other, limit=10)
        assert [event.action for event in page.rows] == ["pool.limits", "pool.limits"]


@pytest.mark.parametrize(
    "body", [{"weight": 0}, {"weight": None}, {"max_gpus": -1}, {"max_queued_jobs": "3"}, {"x": 1}]
)
def test_limits_that_make_no_sense_are_refused(world, client, body):
    assert client.post(limits(world.team.team_id), json=body).status_code == 400


def test_an_admin_reads_the_own_limits_and_changes_none(world, client):
    client.headers["Authorization"] = f"Bearer {key_of(world, Role.ADMIN)}"
    own, other = limits(world.team.team_id), limits(world.add_team("umbrella").team_id)
    assert client.get(own).status_code == 200
    assert client.post(own, json={"weight": 100}).status_code == 403
    absent = client.get(limits("team-absent"))
    not_theirs = client.get(other)
    assert (absent.status_code, not_theirs.status_code) == (404, 404)
    assert absent.json()["error"]["message"].replace("team-absent", "") == not_theirs.json()["error"][
        "message"
    ].replace(other.split("/")[-2], "")


def test_one_submission_too_many_is_refused_in_the_shape_of_openai(world, client):
    set_limits(world, max_queued_jobs=1)
    first = world.queued()
    file_id = world.add_file(b'{"prompt": "a", "completion": "b"}')
    answer = client.post("/v1/fine_tuning/jobs", json={"model": world.base_id, "training_file": file_id})
    assert answer.status_code == 429
    error = answer.json()["error"]
    assert (error["code"], error["type"]) == ("quota_exceeded", "insufficient_quota")
    assert "may have 1 at once (max_queued_jobs)" in error["message"]
    with world.services() as s:
        s.jobs.pause(world.team, first)
    assert (
        client.post("/v1/fine_tuning/jobs", json={"model": world.base_id, "training_file": file_id}).status_code == 429
    )
    with world.services() as s:
        s.jobs.cancel(world.team, first)
    assert (
        client.post("/v1/fine_tuning/jobs", json={"model": world.base_id, "training_file": file_id}).status_code == 200
    )


def test_of_fifty_submissions_at_once_exactly_as_many_are_accepted_as_the_quota_says(world):
    set_limits(world, max_queued_jobs=7)
    file_id = world.add_file(b'{"prompt": "a", "completion": "b"}')
    barrier = threading.Barrier(10)

    def submit(_):
        if not barrier.broken:
            barrier.wait(10)
        try:
            return world.submit(training_file=file_id)
        except QuotaExceeded:
            return None

    with ThreadPoolExecutor(10) as threads:
        accepted = [job_id for job_id in threads.map(submit, range(50)) if job_id is not None]
    assert len(accepted) == 7


def test_a_team_claims_no_more_gpus_than_its_quota(world):
    set_limits(world, max_gpus=1)
    first, second = world.queued(), world.queued()
    assert world.claim("host-0/x").job_id == first
    assert world.claim("host-1/x") is None
    with world.services() as s:
        hint = s.jobs.queue_hint(s.jobs.get(world.team, second))
    assert hint.message.startswith("Your team may use 1 GPU at once (its quota)")
    other = world.add_team("umbrella")
    theirs = world.queued(other)
    assert world.claim("host-1/x").job_id == theirs


def test_files_are_inspected_whatever_the_quota_of_gpus(world):
    set_limits(world, max_gpus=0)
    world.submit()
    assert world.validate() is not None
