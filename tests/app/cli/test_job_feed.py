"""Watching a job: from the stream, over breaks, and by polling where there is no stream."""

import json

import httpx
import pytest

from app.cli import job_feed
from app.cli.client import Client, Connection, ServiceError
from app.cli.job_feed import follow
from app.cli.watch import watch


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(job_feed, "_POLL_SECONDS", 0)


class _Service:
    """Answers like the jobs API; `streams` are the bodies of successive streams."""

    def __init__(self, *, streams=None, statuses=("running", "succeeded")):
        self.streams = streams
        self.statuses = list(statuses)
        self.resumed_after = []

    def __call__(self, request):
        path = request.url.path
        if path.endswith("/stream"):
            if self.streams is None:
                return httpx.Response(404, json={"error": {"message": "no such route"}})
            self.resumed_after.append(request.headers.get("Last-Event-ID"))
            return httpx.Response(200, text=self.streams.pop(0))
        if path.endswith("/events"):
            events = [_event(2), _event(1)]  # newest first
            return httpx.Response(200, json={"data": events, "has_more": False})
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        return httpx.Response(200, json={"id": "ftjob-1", "status": status})

    def client(self):
        return Client(Connection("http://127.0.0.1:1", "key"), transport=httpx.MockTransport(self))


def _event(number):
    return {"id": f"ftevent-{number}", "type": "message", "message": f"event {number}", "data": None}


def _frame(name, data, event_id=None):
    head = "" if event_id is None else f"id: {event_id}\n"
    return f"{head}event: {name}\ndata: {data}\n\n"


def test_events_and_the_ended_job_come_from_the_stream():
    stream = (
        _frame("status", '{"status": "running"}')
        + ": keep-alive\n\n"
        + _frame("message", '{"message": "one"}', 1)
        + _frame("status", '{"status": "succeeded"}')
    )
    service = _Service(streams=[stream])
    kinds = [(kind, value.get("message") or value["status"]) for kind, value in follow(service.client(), "ftjob-1")]
    assert kinds == [("job", "running"), ("event", "one"), ("job", "succeeded")]


def test_a_broken_stream_goes_on_after_the_last_event_seen():
    service = _Service(
        streams=[_frame("message", '{"message": "one"}', 7), _frame("message", '{"message": "two"}', 8)],
        statuses=("running", "succeeded"),
    )
    events = [value["message"] for kind, value in follow(service.client(), "ftjob-1") if kind == "event"]
    assert events == ["one", "two"]
    assert service.resumed_after == [None, "7"]


def test_without_a_stream_the_job_is_polled_and_no_event_is_shown_twice():
    service = _Service(statuses=("running", "running", "succeeded"))
    events = [value["id"] for kind, value in follow(service.client(), "ftjob-1") if kind == "event"]
    assert events == ["ftevent-1", "ftevent-2"]


def test_a_job_that_does_not_exist_ends_the_watching_with_the_service_s_words():
    def absent(request):
        return httpx.Response(404, json={"error": {"message": "Could not find fine tune: ftjob-1"}})

    client = Client(Connection("http://127.0.0.1:1", "key"), transport=httpx.MockTransport(absent))
    with pytest.raises(ServiceError, match="Could not find fine tune"):
        list(follow(client, "ftjob-1"))


def test_without_a_terminal_the_watch_prints_plain_lines(capsys, monkeypatch):
    monkeypatch.setattr("app.cli.watch._PLAIN_LINE_SECONDS", 0)
    stream = _frame("message", '{"type": "message", "message": "Fine-tuning job started"}', 1)
    for step, at_seconds in ((1, 1000), (2, 1061)):
        figures = {"step": step, "total_steps": 3, "train_loss": 0.5, "valid_loss": 0.25}
        event = {"type": "metrics", "created_at": at_seconds, "message": "Step", "data": figures}
        stream += _frame("metrics", json.dumps(event), 1 + step)
    stream += _frame("status", "{}")
    job, _ = watch(_Service(streams=[stream], statuses=("succeeded",)).client(), "ftjob-1")
    said = capsys.readouterr().out
    assert job["status"] == "succeeded"
    assert "Fine-tuning job started" in said
    assert "step 2/3  loss 0.500  validation loss 0.250  1 min 01 s left" in said
