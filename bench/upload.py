"""Uploads (G18): memory for a large one, what is left of one that was cut off, and a quota's edge met by many at once.

    python bench/upload.py [--megabytes 2000] [--cuts 100] [--parallel 50]

One uvicorn process, Postgres and Redis of its own. Speed is a ratio to a bare FastAPI endpoint that takes the same
bytes to the same disk (hash, fsync, one row in the same Postgres), in turns.
"""

import argparse
import contextlib
import http.client
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

import psutil
from psycopg import connect

sys.path.insert(0, str(Path(__file__).parents[1]))

from app.settings import Settings, to_environment
from app.usage.schemas import BudgetSet
from tests.faults.world import World

_ROOT = Path(__file__).parents[1]
_BARE_APP = """
import hashlib, os, psycopg
from fastapi import FastAPI, Request

app = FastAPI()
connection = psycopg.connect(os.environ["BARE_URL"], autocommit=True)

@app.post("/v1/files")
async def take(request: Request):
    digest, count = hashlib.sha256(), 0
    with open(os.environ["BARE_FILE"], "wb") as file:
        async for chunk in request.stream():
            file.write(chunk)
            digest.update(chunk)
            count += len(chunk)
        file.flush()
        os.fsync(file.fileno())
    connection.execute("INSERT INTO bare_files VALUES (%s, %s)", (digest.hexdigest(), count))
    return {"id": digest.hexdigest()}
"""
_LINE = json.dumps(
    {"messages": [{"role": "user", "content": "q" * 400}, {"role": "assistant", "content": "a" * 500}]}
).encode()
_BLOCK = (_LINE + b"\n") * 1000
_HEAD = (
    b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n'
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="r.jsonl"\r\n\r\n'
)
_TAIL = b"\r\n--b--\r\n"
_SAMPLE_SECONDS = 0.02
_ROOM_FOR = 10


class Server:
    """One uvicorn process on a port of its own, with the most memory it has been seen with."""

    def __init__(self, target: str, environment: dict[str, str]) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        command = [sys.executable, "-m", "uvicorn", *target.split(), "--port", str(self.port), "--log-level", "warning"]
        paths = {"PYTHONPATH": f"{_ROOT}:{environment.get('PYTHONPATH', '')}"}
        self._process = subprocess.Popen(command, env={**os.environ, **environment, **paths})
        self._sampler = threading.Thread(target=self._sample, daemon=True)
        self.peak_bytes = 0

    def __enter__(self) -> Self:
        for _ in range(600):
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                self._sampler.start()
                return self
            time.sleep(0.1)
        raise SystemExit("a server did not start")

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()

    def forget_peak(self) -> int:
        """Start anew from the memory in use now (bytes)."""
        self.peak_bytes = psutil.Process(self._process.pid).memory_info().rss
        return self.peak_bytes

    def _sample(self) -> None:
        process = psutil.Process(self._process.pid)
        with contextlib.suppress(psutil.NoSuchProcess):
            while True:
                self.peak_bytes = max(self.peak_bytes, process.memory_info().rss)
                time.sleep(_SAMPLE_SECONDS)


class Client:
    def __init__(self, server: Server, key: str) -> None:
        self._port = server.port
        self._headers = {"authorization": f"Bearer {key}", "content-type": "multipart/form-data; boundary=b"}

    def upload(self, blocks: int) -> tuple[int, float]:
        """Send so many megabytes, about; the answer's status and the seconds."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=600)
        started = time.perf_counter()
        headers = {**self._headers, "content-length": str(_length(blocks))}
        connection.request("POST", "/v1/files", _body(blocks), headers)
        status = connection.getresponse().status
        connection.close()
        return status, time.perf_counter() - started

    def cut(self, blocks: int, at_byte: int) -> None:
        """Begin an upload and vanish after so many bytes of the body."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        connection.putrequest("POST", "/v1/files")
        for name, value in {**self._headers, "content-length": str(_length(blocks))}.items():
            connection.putheader(name, value)
        connection.endheaders()
        whole = b"".join(_body(blocks))
        connection.send(whole[:at_byte])
        assert connection.sock is not None
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset, no farewell
        connection.close()

    def files(self) -> list[str]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        connection.request("GET", "/v1/files", headers=self._headers)
        return [file["id"] for file in json.loads(connection.getresponse().read())["data"]]


def _body(blocks: int) -> Iterator[bytes]:
    yield _HEAD
    for _ in range(blocks):
        yield _BLOCK
    yield _TAIL


def _length(blocks: int) -> int:
    return len(_HEAD) + blocks * len(_BLOCK) + len(_TAIL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=2000)
    parser.add_argument("--cuts", type=int, default=100)
    parser.add_argument("--parallel", type=int, default=50)
    options = parser.parse_args()
    limit = {"max_file_bytes": 2 * options.megabytes * len(_BLOCK)}
    with World(1, workers=0, has_control=False, changed=limit) as world, tempfile.TemporaryDirectory() as name:
        settings = world.house.context.settings
        with world.house.services() as services:
            key = services.identity.first_key()
        with connect(world.postgres.url(), autocommit=True) as connection:
            connection.execute("CREATE TABLE bare_files (sha256 text, bytes bigint)")
        (Path(name) / "bare.py").write_text(_BARE_APP)
        bare_settings = {"PYTHONPATH": name, "BARE_URL": world.postgres.url(), "BARE_FILE": f"{name}/bytes"}
        with (
            Server("app.main:build --factory", to_environment(settings)) as ours,
            Server("bare:app", bare_settings) as bare,
        ):
            print("| what | measured | goal |\n|---|---|---|")
            large(Client(ours, key), ours, Client(bare, key), options.megabytes)
            cuts(world, settings, Client(ours, key), options.cuts)
            edge(world, Client(ours, key), options.parallel)


def large(ours: Client, server: Server, bare: Client, megabytes: int) -> None:
    """The whole size once for memory, a tenth in turns for speed."""
    _expect(ours.upload(1))
    before = server.forget_peak()
    status, seconds = ours.upload(megabytes)
    _expect((status, seconds))
    extra = (server.peak_bytes - before) / 2**20
    size = megabytes * len(_BLOCK) / 1e6
    row(f"{size:,.0f} MB in one upload: memory on top", f"{extra:.0f} MiB", "64 MiB")
    part = max(1, megabytes // 10)
    ratios, rates = [], []
    for _ in range(3):
        taken = {client: _expect(client.upload(part)) for client in (ours, bare)}
        ratios.append(taken[bare] / taken[ours])
        rates.append(part * len(_BLOCK) / 1e6 / taken[ours])
    rate, ratio = statistics.median(rates), statistics.median(ratios)
    row("its speed, to a bare endpoint's", f"{rate:.0f} MB/s, {ratio:.0%}", "")


def cuts(world: World, settings: Settings, client: Client, count: int) -> None:
    before, chance, blocks = client.files(), random.Random(1), 4  # noqa: S311 - no secret
    for _ in range(count):
        client.cut(blocks, chance.randrange(_length(blocks)))
    incoming = Path(settings.artifacts_url.removeprefix("file://")) / ".incoming"
    world.house.wait_until(lambda: not list(incoming.iterdir()), "no bytes left behind", 30)
    stored = sum(1 for path in incoming.parent.rglob("*") if path.is_file())
    found = f"{len(client.files()) - len(before)} visible, {stored - len(before)} left in the store"
    row(f"{count} uploads cut at any byte", found, "0, 0")


def edge(world: World, client: Client, parallel: int) -> None:
    """Room for ten files of one block, less than for eleven."""
    caller = world.house.caller
    ((stored,),) = world.sql("SELECT coalesce(sum(bytes), 0) FROM files WHERE team_id = %s", caller.team_id)
    room = int(str(stored)) + _ROOM_FOR * len(_BLOCK) + len(_BLOCK) // 2
    with world.house.services() as services:
        services.budgets.set(caller, caller.team_id, BudgetSet(storage_bytes=room))
    with ThreadPoolExecutor(parallel) as pool:
        answers = list(pool.map(lambda _: client.upload(1)[0], range(parallel)))
    taken, refused = answers.count(200), answers.count(429)
    found = f"{taken} taken, {refused} refused, {parallel - taken - refused} otherwise"
    row(f"{parallel} uploads at once, room for {_ROOM_FOR}", found, f"{_ROOM_FOR}, {parallel - _ROOM_FOR}, 0")


def _expect(answer: tuple[int, float]) -> float:
    status, seconds = answer
    if status != 200:
        raise SystemExit(f"an upload was answered with {status}")
    return seconds


def row(what: str, measured: str, goal: str) -> None:
    print(f"| {what} | {measured} | {goal} |", flush=True)


if __name__ == "__main__":
    main()
