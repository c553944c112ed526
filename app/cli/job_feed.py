"""What happens to a job, in order: from the service's stream, or by polling where a server has none."""

import json
import time
from collections.abc import Iterator
from typing import Any

from app.cli.client import Client, ServiceError, Unreachable

ENDS = frozenset({"succeeded", "failed", "cancelled"})
_POLL_SECONDS = 1.0
# A restarting service must not end the watching.
_PATIENCE_SECONDS = 120.0

JOBS = "/v1/fine_tuning/jobs"
Item = tuple[str, dict[str, Any]]


def follow(client: Client, job_id: str, *, of: str = JOBS) -> Iterator[Item]:
    """("event", …) and, after the events that led to a status, ("job", …); the last item is the ended job.

    `of` is the path of the collection that it is in.
    """
    path = f"{of}/{job_id}"
    try:
        yield from _patiently(_Stream(client, path))
    except ServiceError as error:
        if error.status not in {404, 405, 406}:
            raise
        yield from _patiently(_Polls(client, path))


class _Stream:
    """Server-sent events; a broken connection goes on after the last event seen."""

    def __init__(self, client: Client, path: str) -> None:
        self._client = client
        self._path = path
        self._last_id: str | None = None

    def read(self) -> Iterator[Item]:
        headers = {} if self._last_id is None else {"Last-Event-ID": self._last_id}
        with self._client.stream("GET", f"{self._path}/stream", headers=headers, timeout=60) as response:
            for name, event_id, data in _frames(response.iter_lines()):
                if name == "status":
                    yield "job", self._client.get(self._path)
                else:
                    self._last_id = event_id or self._last_id
                    yield "event", json.loads(data)
        yield "job", self._client.get(self._path)


class _Polls:
    """The wire every client has: the job and its events, asked for again and again."""

    def __init__(self, client: Client, path: str) -> None:
        self._client = client
        self._path = path
        self._seen: set[str] = set()

    def read(self) -> Iterator[Item]:
        job = self._client.get(self._path)
        news = []
        for event in self._client.pages(f"{self._path}/events"):
            if event["id"] in self._seen:
                break
            news.append(event)
        for event in reversed(news):  # the service lists the newest first
            self._seen.add(event["id"])
            yield "event", event
        yield "job", job


def _patiently(source: _Stream | _Polls) -> Iterator[Item]:
    """Read until the job has ended; a service that is away for a while is waited for."""
    lost_since: float | None = None
    while True:
        try:
            for kind, value in source.read():
                lost_since = None
                yield kind, value
                if kind == "job" and value["status"] in ENDS:
                    return
        except (Unreachable, ServiceError) as error:
            now = time.monotonic()
            lost_since = now if lost_since is None else lost_since
            is_passing = isinstance(error, Unreachable) or error.status >= 500
            if not is_passing or now - lost_since > _PATIENCE_SECONDS:
                raise
        time.sleep(_POLL_SECONDS)


def _frames(lines: Iterator[str]) -> Iterator[tuple[str, str | None, str]]:
    """(name, id, data) of each frame; comments are skipped."""
    name, event_id, data = "message", None, ""
    for line in lines:
        if not line:
            if data:
                yield name, event_id, data
            name, event_id, data = "message", None, ""
        elif not line.startswith(":"):
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if field == "event":
                name = value
            elif field == "id":
                event_id = value
            elif field == "data":
                data = f"{data}\n{value}" if data else value
