"""The API with a base, and a worker whose serving engine is scripted."""

import pytest
from fastapi.testclient import TestClient

from app.main import create_app
from tests.support.eval_world import CUSTOM, EXACT, EvalWorld
from tests.support.tuned_models import add_base


@pytest.fixture
def world(context, services, api_key):
    add_base(services)
    with services() as s:
        caller = s.identity.authenticate(api_key)
    return EvalWorld(context, services, caller)


@pytest.fixture
def api(context, api_key, world):
    """A client of the API; errors of ours come as answers."""
    app = create_app(context, generator=world.generator)
    headers = {"Authorization": f"Bearer {api_key}"}
    with TestClient(app, headers=headers, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def make_eval(api):
    """An eval's id; by default with one grader."""

    def make(*criteria, config=CUSTOM, **fields):
        body = {"data_source_config": config, "testing_criteria": list(criteria) or [EXACT], **fields}
        answer = api.post("/v1/evals", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()["id"]

    return make


@pytest.fixture
def make_run(api):
    """A run's id and its address."""

    def make(eval_id, data_source, **fields):
        answer = api.post(f"/v1/evals/{eval_id}/runs", json={"data_source": data_source, **fields})
        assert answer.status_code == 200, answer.text
        run = answer.json()
        assert run["status"] == "queued"
        return run["id"], f"/v1/evals/{eval_id}/runs/{run['id']}"

    return make


@pytest.fixture
def other_team_key(services):
    """A key of a team that owns nothing."""
    from app.identity.policy import Role  # noqa: PLC0415

    with services() as opened:
        team = opened.identity.create_team("Other", "other")
        return opened.identity.create_key(team.id, "theirs", Role.ADMIN)[1]
