"""The event stream of a job on the wire."""

import json

import pytest

from tests.support.job_world import clients_world, metric


@pytest.fixture
def world(services, api_key):
    return clients_world(services, api_key)


def frames_of(text):
    """(name, id, data) of each frame of an event stream."""
    frames = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if fields:
            frames.append((fields["event"], fields.get("id"), json.loads(fields["data"])))
    return frames


def test_the_stream_of_a_finished_job_holds_everything_and_ends(world, client):
    task = world.running()
    with world.services() as s:
        s.job_worker.record_metrics(task.job_id, task.fence, [metric(1)])
        s.jobs.cancel(world.team, task.job_id)
        s.job_worker.release(task.job_id, task.fence)
    url = f"/v1/fine_tuning/jobs/{task.job_id}/stream"
    answer = client.get(url)
    assert answer.headers["content-type"].startswith("text/event-stream")
    frames = frames_of(answer.text)
    assert [data["message"] for name, _, data in frames if name != "status"] == world.messages(task.job_id)
    assert [data["step"] for _, _, data in frames if data.get("type") == "metrics" for data in [data["data"]]] == [1]
    assert frames[-1] == ("status", None, {"job_id": task.job_id, "status": "cancelled"})
    middle = frames[2][1]
    resumed = frames_of(client.get(url, headers={"Last-Event-ID": middle}).text)
    assert resumed == frames[3:]


def test_a_stream_cannot_be_resumed_from_nonsense(world, client):
    url = f"/v1/fine_tuning/jobs/{world.submit()}/stream"
    assert client.get(url, headers={"Last-Event-ID": "x"}).status_code == 400
