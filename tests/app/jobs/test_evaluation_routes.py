"""What a job's evaluation found, on the wire."""

import pytest

from tests.support.evaluations import evaluation
from tests.support.job_world import clients_world


@pytest.fixture
def world(services, api_key):
    return clients_world(services, api_key)


def test_an_evaluation_is_read_as_json_and_as_a_page_by_its_team_alone(world, client):
    task = world.running()
    path = f"/v1/fine_tuning/jobs/{task.job_id}/evaluation"
    absent = client.get(path)
    assert (absent.status_code, "no evaluation yet" in absent.json()["error"]["message"]) == (404, True)
    with world.services() as s:
        s.job_worker.record_evaluation(task.job_id, task.fence, evaluation())
    found = client.get(path).raise_for_status().json()
    assert found["judgement"]["verdict"] == "better"
    assert found["summary"].startswith("On 400 held-out rows the tuned model is better than the base")
    assert world.messages(task.job_id)[-1] == f"Evaluation. {found['summary']}"
    report = client.get(f"{path}/report").raise_for_status()
    assert report.headers["content-type"].startswith("text/html")
    assert found["summary"] in report.text
    missing = client.get("/v1/fine_tuning/jobs/ftjob-none/evaluation")
    assert missing.status_code == 404
