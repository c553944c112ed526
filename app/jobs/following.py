"""A job's events as they happen, as server-sent events."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable

from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from app.errors import InvalidInput
from app.jobs.objects import event_object
from app.jobs.service import News

POLL_SECONDS = 0.5
KEEP_ALIVE_SECONDS = 15.0
PAGE_EVENTS = 200
_MAX_SEQUENCE = 2**63 - 1


def event_stream(read: Callable[[int], News], *, since: int) -> StreamingResponse:
    """The frames of `follow` as an answer that no cache and no proxy holds back."""
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(follow(read, since=since), media_type="text/event-stream", headers=headers)


def sequence_of(last_event_id: str | None) -> int:
    """The sequence number to go on after; `InvalidInput` for what no frame had as its id."""
    if last_event_id is None or last_event_id == "":
        return 0
    if last_event_id.isascii() and last_event_id.isdecimal() and int(last_event_id) <= _MAX_SEQUENCE:
        return int(last_event_id)
    raise InvalidInput("The header Last-Event-ID must be an id of this stream.", param="Last-Event-ID")


async def follow(
    read: Callable[[int], News],
    *,
    since: int,
    poll_seconds: float = POLL_SECONDS,
    keep_alive_seconds: float = KEEP_ALIVE_SECONDS,
) -> AsyncIterator[str]:
    """Frames until the job is over.

    `read(sequence)` is one short unit of work, called in the thread pool: no connection is held while waiting.
    Frames of events are named `message` or `metrics` and carry the event's sequence as their id, with which
    a client goes on after a break (Last-Event-ID). A frame `status` comes first and at each change.
    """
    status: str | None = None
    spoken_at = time.monotonic()
    while True:
        news = await run_in_threadpool(read, since)
        frames = [
            _frame(event.type, event_object(event).model_dump_json(), id_=event.sequence) for event in news.events
        ]
        if news.events:
            since = news.events[-1].sequence
        if news.job.status != status:
            status = news.job.status
            frames.append(_frame("status", json.dumps({"job_id": news.job.id, "status": status})))
        if not frames and time.monotonic() - spoken_at >= keep_alive_seconds:
            frames.append(": keep-alive\n\n")
        if frames:
            spoken_at = time.monotonic()
            yield "".join(frames)
        if news.is_over:
            return
        if len(news.events) < PAGE_EVENTS:
            await asyncio.sleep(poll_seconds)


def _frame(name: str, data: str, *, id_: int | None = None) -> str:
    head = "" if id_ is None else f"id: {id_}\n"
    return f"{head}event: {name}\ndata: {data}\n\n"
