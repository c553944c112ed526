"""How a stream of events ends."""

import asyncio
import json

from app.chat.sse import DONE, closed_by_done_or_error, event
from app.errors import Unavailable


def read(events):
    async def inner():
        return [data async for data in closed_by_done_or_error(events)]

    return asyncio.run(inner())


async def good():
    yield event({"text": "über\nzwei Zeilen"})


async def broken(error):
    yield event({"n": 1})
    raise error


def test_a_whole_stream_ends_with_done_and_each_event_is_one_line():
    data, end = read(good())
    assert end == DONE
    assert data.count(b"\n") == 2
    assert json.loads(data.removeprefix(b"data: ")) == {"text": "über\nzwei Zeilen"}


def test_a_broken_stream_ends_with_its_reason():
    _, end = read(broken(Unavailable("Gone.", code="answer_cut")))
    assert json.loads(end.removeprefix(b"data: "))["error"]["code"] == "answer_cut"


def test_a_fault_of_ours_ends_a_stream_without_showing_internals():
    _, end = read(broken(RuntimeError("secret internals")))
    error = json.loads(end.removeprefix(b"data: "))["error"]
    assert error["type"] == "server_error"
    assert "secret" not in error["message"]
