"""A chat service with stated delays: as a transport for virtual time, and on a real socket."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from threading import Event, Thread

import httpx


@dataclass(frozen=True)
class Reply:
    """How one request is answered. `tokens` of text, then an end token that has none if `has_end_token`."""

    first_seconds: float = 0.02
    token_seconds: float = 0.005
    tokens: int = 5
    has_end_token: bool = False
    has_usage: bool = True
    status: int = 200
    breaks: str | None = None  # a line in place of the third token, after which the stream ends

    @property
    def counted(self) -> int:
        return self.tokens + self.has_end_token

    @property
    def whole_seconds(self) -> float:
        return self.first_seconds + (self.counted - 1) * self.token_seconds


@dataclass
class Asked:
    """One request as the service saw it; times of its loop's clock."""

    model: str
    number: int
    arrived: float
    body: dict
    written: list[float] = field(default_factory=list)
    ended: float = 0.0


class ScriptedChat:
    """`reply(model, number)` says how the request with that prompt is answered; `one_at_a_time` makes it queue."""

    def __init__(self, reply: Callable[[str, int], Reply], *, one_at_a_time: bool = False) -> None:
        self._reply = reply
        self._turn = asyncio.Lock() if one_at_a_time else None
        self.asked: list[Asked] = []

    def of(self, model: str) -> dict[int, Asked]:
        """The last request with each prompt number."""
        return {one.number: one for one in self.asked if one.model == model}

    def take(self, body: dict) -> tuple[Asked, Reply]:
        number = int(body["messages"][0]["content"].rpartition(" ")[2])
        asked = Asked(body["model"], number, asyncio.get_running_loop().time(), body)
        self.asked.append(asked)
        return asked, self._reply(asked.model, number)

    async def events(self, asked: Asked, reply: Reply) -> AsyncIterator[bytes]:
        async with self._turn or contextlib.nullcontext():
            clock = asyncio.get_running_loop().time
            yield _event({"choices": [{"delta": {"role": "assistant", "content": ""}, "finish_reason": None}]})
            for place in range(reply.counted):
                await asyncio.sleep(reply.token_seconds if place else reply.first_seconds)
                if reply.breaks is not None and place == 2:
                    yield f"{reply.breaks}\n\n".encode()
                    return
                asked.written.append(clock())
                if place < reply.tokens:
                    yield _event({"choices": [{"delta": {"content": "word "}, "finish_reason": None}]})
            yield _event({"choices": [{"delta": {}, "finish_reason": "stop"}]})
            if reply.has_usage:
                yield _event({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": reply.counted}})
            asked.ended = clock()
            yield b"data: [DONE]\n\n"


def numbered_prompts(count: int) -> list[list[dict[str, str]]]:
    return [[{"role": "user", "content": f"prompt {number}"}] for number in range(count)]


class ScriptedTransport(httpx.AsyncBaseTransport):
    """The service without a socket."""

    def __init__(self, service: ScriptedChat) -> None:
        self._service = service

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        asked, reply = self._service.take(json.loads(request.content))
        if reply.status == 0:
            raise httpx.ConnectError("refused")
        if reply.status != 200:
            return httpx.Response(reply.status, json=_error(reply))
        return httpx.Response(200, stream=_Stream(self._service.events(asked, reply)))


class _Stream(httpx.AsyncByteStream):
    def __init__(self, events: AsyncIterator[bytes]) -> None:
        self._events = events

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._events

    async def aclose(self) -> None:
        await self._events.aclose()


@contextlib.asynccontextmanager
async def listening(service: ScriptedChat) -> AsyncIterator[str]:
    """The service on a socket of this loop; its address."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(next(line for line in head.splitlines() if line.startswith("content-length:")).split(":")[1])
        asked, reply = service.take(json.loads(await reader.readexactly(length)))
        if reply.status != 200:
            writer.write(f"HTTP/1.1 {reply.status} No\r\nConnection: close\r\n\r\n{json.dumps(_error(reply))}".encode())
        else:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
            async for event in service.events(asked, reply):
                writer.write(event)
                await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@contextlib.contextmanager
def listening_beside(service: ScriptedChat) -> Iterator[str]:
    """The same in a thread of its own, for a client that has its own loop."""
    started, address = Event(), []

    async def serve() -> None:
        stop = asyncio.Event()
        async with listening(service) as url:
            address.extend([url, asyncio.get_running_loop(), stop])
            started.set()
            await stop.wait()

    thread = Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert started.wait(10)
    url, loop, stop = address
    try:
        yield url
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)


def _event(data: dict) -> bytes:
    return f"data: {json.dumps(data)}\n\n".encode()


def _error(reply: Reply) -> dict:
    return {"error": {"message": f"refused with {reply.status}"}}
