"""The service over a large table: claims, list pages, point reads, and submits beside a million jobs.

    python bench/scale.py [--finished 1000000] [--queued 100000] [--teams 50] [--seconds 10]

Starts a Postgres of its own (synced to disk), fills it with synthetic jobs, and prints one table. Rates are ratios to a
bare FastAPI endpoint that reads the same row by its key and returns it as it is, measured in turns with ours (A B A B);
a submit is compared with a transaction of `pgbench`. One uvicorn process each; the clients run on the same machine.
"""

import argparse
import http.client
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psycopg

from app.bases.folder import BaseFolder
from app.context import Context, open_context
from app.db.migrate import upgrade
from app.embedded.postgres import EmbeddedPostgres, _binaries
from app.embedded.redis import EmbeddedRedis
from app.embedded.sockets import private_socket_folder
from app.factory import Services
from app.settings import Settings, to_environment

ROOT = Path(__file__).parent.parent
_CLAIMS, _PAGES, _SUBMITS, _CLIENTS = 500, 60, 300, 4
_READS_A_SECOND = (200, 500, 1000)
_OURS, _BARE = 8971, 8972
_FILL = """
INSERT INTO jobs (id, team_id, created_by, status, base_id, training_file, seed, priority, method, hyperparameters,
                  spec, dataset_report, created_at, started_at, claimed_at, finished_at, fence)
SELECT 'ftjob-' || lpad(to_hex(n), 24, '0'), (SELECT ids[1 + (n * 7919) %% cardinality(ids)] FROM all_teams),
       'key:none', CASE WHEN n > %(finished)s THEN 'queued' WHEN n %% 20 = 0 THEN 'failed' ELSE 'succeeded' END,
       'tiny', 'file-' || n, n %% 1000, (n %% 3) - 1,
       '{"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 3, "batch_size": 8,
         "learning_rate_multiplier": 1.0}}}', '{"n_epochs": 3, "batch_size": 8, "learning_rate_multiplier": 1.0}',
       '{"recipe": "chat", "n_epochs": 3, "batch_size": 8, "seed": 7, "max_length": 256, "token_budget": 1024,
         "lora": {"rank": 16, "alpha": 32, "dropout": 0.0, "targets": "all-linear"},
         "optimizer": {"learning_rate": 0.0005}}',
       '{"rows": 100}', clock_timestamp() - make_interval(secs => 30 * (%(finished)s + %(queued)s - n)),
       CASE WHEN n <= %(finished)s THEN clock_timestamp() - make_interval(secs => 30 * (%(finished)s - n)) END,
       CASE WHEN n <= %(finished)s THEN clock_timestamp() - make_interval(secs => 30 * (%(finished)s - n)) END,
       CASE WHEN n <= %(finished)s THEN clock_timestamp() - make_interval(secs => 30 * (%(finished)s - n) - 600) END,
       CASE WHEN n <= %(finished)s THEN 1 ELSE 0 END
FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS n
"""
_BARE_APP = """
import os
import threading
import psycopg
from fastapi import FastAPI
from psycopg.rows import dict_row
app = FastAPI()
held = threading.local()
@app.get("/jobs/{job_id}")
def read(job_id: str):
    if not hasattr(held, "connection"):
        held.connection = psycopg.connect(os.environ["BARE_URL"], row_factory=dict_row, autocommit=True)
    return held.connection.execute(
        "SELECT id, team_id, status, base_id, training_file, seed, method, hyperparameters, created_at, finished_at"
        " FROM jobs WHERE id = %s", (job_id,)).fetchone()
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--finished", type=int, default=1_000_000)
    parser.add_argument("--queued", type=int, default=100_000)
    parser.add_argument("--teams", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each turn of point reads")
    options = parser.parse_args()
    with servers() as place:
        measure(options, place)


@dataclass(frozen=True)
class Place:
    """A Postgres and a Redis of this run's own, and its folder."""

    folder: Path
    sockets: Path
    database_url: str
    redis_url: str

    def settings(self) -> Settings:
        for part in ("artifacts", "bases", "scratch"):
            (self.folder / part).mkdir()
        return Settings.model_validate(
            {
                "database_url": self.database_url,
                "redis_url": self.redis_url,
                "artifacts_url": (self.folder / "artifacts").as_uri(),
                "bases_dir": self.folder / "bases",
                "scratch_dir": self.folder / "scratch",
            }
        )


@contextmanager
def servers() -> Iterator[Place]:
    with tempfile.TemporaryDirectory(prefix="tsm-scale-") as name:
        folder = Path(name)
        sockets = private_socket_folder(folder / "run")
        postgres = EmbeddedPostgres(folder / "postgres", sockets, log_file=folder / "postgres.log")
        postgres.prepare()
        server = postgres.spawn()
        redis = EmbeddedRedis(sockets, log_file=folder / "redis.log")
        broker = redis.spawn()
        try:
            postgres.wait_ready(server)
            redis.wait_ready(broker)
            postgres.create_database()
            upgrade(postgres.url())
            yield Place(folder, sockets, postgres.url(), redis.url)
        finally:
            EmbeddedRedis.stop(broker)
            EmbeddedPostgres.stop(server)


def measure(options: argparse.Namespace, place: Place) -> None:
    settings, database_url = place.settings(), place.database_url
    context = open_context(settings)
    key, caller_team = prepare(context, options.teams)
    started = time.monotonic()
    fill(database_url, options)
    took = time.monotonic() - started
    print(f"{options.finished:,} finished and {options.queued:,} queued jobs, {took:.0f} s to fill")
    print(f"{os.cpu_count()} cores, load average before the measurements {os.getloadavg()[0]:.1f}")
    print("\n| what | measured | goal |\n|---|---|---|")
    floor = pgbench(place.sockets)
    claims(context, floor)
    with Api("app.main:build", _OURS, to_environment(settings)) as ours:
        lists(ours, key, database_url, caller_team)
        with Api("bare:app", _BARE, {"BARE_URL": database_url, "PYTHONPATH": write_bare(place.folder)}) as bare:
            reads(ours, bare, key, database_url=database_url, team=caller_team, seconds=options.seconds)
        submits(ours, key, database_url, caller_team, floor)
    context.close()


def prepare(context: Context, teams: int) -> tuple[str, str]:
    """A base, teams, and the operator's key with its team."""
    with context.database.unit_of_work() as work:
        services = Services(context, work)
        key = services.identity.first_key()
        team = services.identity.authenticate(key).team_id
        for number in range(teams - 1):
            services.identity.create_team(f"Team {number}", f"team-{number}")
        found = BaseFolder(
            files={"model.safetensors": "0" * 64},
            architecture="llama",
            context_length=256,
            parameters=1000,
            has_chat_template=True,
        )
        services.bases.register("system", "tiny", found, licence="Apache-2.0", source="bench")
    return key, team


def fill(database_url: str, options: argparse.Namespace) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE all_teams AS SELECT array_agg(id ORDER BY id) AS ids FROM teams")
        total, step = options.finished + options.queued, 100_000
        for first in range(1, total + 1, step):
            values = {
                "finished": options.finished,
                "queued": options.queued,
                "first": first,
                "last": min(total, first + step - 1),
            }
            connection.execute(_FILL, values)
        connection.execute("DROP TABLE all_teams")
        connection.execute("VACUUM ANALYZE jobs")
        connection.execute("CHECKPOINT")


def claims(context: Context, floor: float) -> None:
    """Of the pool's own claim, transaction and commit included. What it claims has no files, so it ends at once."""
    seconds = []
    for number in range(_CLAIMS):
        started = time.perf_counter()
        with context.database.unit_of_work() as work:
            pool = Services(context, work).pool
            claim = pool.claim(f"gpu{number}@bench/1", from_status="queued", to_status="running")
        seconds.append(time.perf_counter() - started)
        assert claim is not None, "a job to claim"
    row("a claim", f"p50 {milli(seconds, 0.5)}, p99 {milli(seconds, 0.99)} ms", "p99 ≤ 20 ms")
    typical = 1000 * statistics.median(seconds)
    row("a claim, to a transaction of pgbench", f"{typical:.1f} to {floor:.1f} ms = {typical / floor:.1f}", "")


def lists(ours: "Api", key: str, database_url: str, team: str) -> None:
    with psycopg.connect(database_url) as connection:
        ids = [
            str(one)
            for (one,) in connection.execute("SELECT id FROM jobs WHERE team_id = %s ORDER BY created_at DESC", (team,))
        ]
    depths = {"first": None, **{f"{share:.0%} down": ids[int(share * (len(ids) - 2))] for share in (0.1, 0.5, 0.99)}}
    seconds: dict[str, list[float]] = {name: [] for name in depths}
    client = Client(ours.port, key)
    for _ in range(_PAGES):
        for name, cursor in depths.items():
            path = "/v1/fine_tuning/jobs?limit=20" + ("" if cursor is None else f"&after={cursor}")
            seconds[name].append(client.timed("GET", path))
    first = statistics.median(seconds.pop("first"))
    worst = max(statistics.median(times) / first for times in seconds.values())
    told = ", ".join(f"{name} {statistics.median(times) / first:.2f}" for name, times in seconds.items())
    what = f"a page of 20 of {len(ids):,} jobs, to the first ({1000 * first:.1f} ms)"
    row(what, f"{told}; worst {worst:.2f}", "≤ 1.2")


def reads(ours: "Api", bare: "Api", key: str, *, database_url: str, team: str, seconds: float) -> None:
    with psycopg.connect(database_url) as connection:
        ids = [
            str(one)
            for (one,) in connection.execute(
                "SELECT id FROM jobs WHERE team_id = %s AND status = 'succeeded' LIMIT 5000", (team,)
            )
        ]
    chance = random.Random(1)  # noqa: S311 - no secret
    rates: dict[str, list[float]] = {"ours": [], "bare": []}
    for _ in range(2):
        for name, api, path in (("ours", ours, "/v1/fine_tuning/jobs"), ("bare", bare, "/jobs")):
            rates[name].append(
                rate(api.port, key, [f"{path}/{job_id}" for job_id in chance.choices(ids, k=1000)], seconds)
            )
    mine, other = statistics.mean(rates["ours"]), statistics.mean(rates["bare"])
    row("point reads a second, ours to bare", f"{mine:.0f} to {other:.0f} = {mine / other:.0%}", "≥ 60 %")


def submits(ours: "Api", key: str, database_url: str, team: str, floor: float) -> None:
    client = Client(ours.port, key)
    line = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
    file = client.upload(("\n".join(json.dumps(line) for _ in range(12))).encode())
    with psycopg.connect(database_url) as connection:
        ids = [str(one) for (one,) in connection.execute("SELECT id FROM jobs WHERE team_id = %s LIMIT 2000", (team,))]
    body = {"model": "tiny", "training_file": file}

    def submit_some() -> list[float]:
        return [client.timed("POST", "/v1/fine_tuning/jobs", body) for _ in range(_SUBMITS)]

    alone = submit_some()
    typical = 1000 * statistics.median(alone)
    row("a submit alone", f"p50 {milli(alone, 0.5)}, p99 {milli(alone, 0.99)} ms", "")
    paths = [f"/v1/fine_tuning/jobs/{job_id}" for job_id in ids]
    for each_second in (*_READS_A_SECOND, None):
        with reading(ours.port, key, paths, each_second) as count:
            started = time.monotonic()
            beside = submit_some()
            reads = count() / (time.monotonic() - started)
        speed = "at full speed" if each_second is None else f"that ask {each_second} times a second together"
        told = f"p50 {milli(beside, 0.5)}, p99 {milli(beside, 0.99)} ms beside {reads:.0f} reads a second"
        row(f"a submit beside {_CLIENTS} readers {speed}", told, "p99 ≤ 50 ms")
    row("a submit alone, to a transaction of pgbench", f"{typical:.1f} to {floor:.1f} ms = {typical / floor:.1f}", "")


@contextmanager
def reading(port: int, key: str, paths: list[str], each_second: int | None) -> Iterator[Callable[[], int]]:
    """Clients that read meanwhile, so many times a second together (None: as fast as they can); how often so far."""
    stop, counts = threading.Event(), [0] * _CLIENTS

    def work(number: int) -> None:
        client, chance, due = Client(port, key), random.Random(number), time.monotonic()  # noqa: S311 - no secret
        while not stop.is_set():
            client.timed("GET", chance.choice(paths))
            counts[number] += 1
            if each_second is not None:
                due += _CLIENTS / each_second
                stop.wait(max(0.0, due - time.monotonic()))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(_CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield lambda: sum(counts)
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def pgbench(sockets: Path) -> float:
    """Mean milliseconds of its standard transaction with one client, in a database of its own on the same server."""
    address = ["-h", str(sockets), "-U", "postgres"]
    subprocess.run([_binaries() / "createdb", *address, "pgbench"], check=True)
    subprocess.run(
        [_binaries() / "pgbench", *address, "-i", "-q", "-s", "5", "pgbench"], check=True, capture_output=True
    )
    done = subprocess.run(
        [_binaries() / "pgbench", *address, "-c", "1", "-T", "5", "pgbench"], check=True, capture_output=True, text=True
    )
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("latency average"))
    return float(line.split("=")[1].split()[0])


class Api:
    """uvicorn, of one process unless told otherwise."""

    def __init__(self, target: str, port: int, environment: dict[str, str], *, workers: int = 1) -> None:
        self.port = port
        command = [sys.executable, "-m", "uvicorn", target, "--port", str(port), "--log-level", "warning"]
        command += ["--workers", str(workers)]
        if target.endswith(":build"):
            command.append("--factory")
        paths = {"PYTHONPATH": f"{ROOT}:{environment.get('PYTHONPATH', '')}"}
        self._process = subprocess.Popen(command, env={**os.environ, **environment, **paths})

    def __enter__(self) -> Self:
        for _ in range(300):
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
                connection.request("GET", "/nothing")
                connection.getresponse().read()
            except OSError:
                time.sleep(0.1)
            else:
                return self
        raise SystemExit("an API did not start")

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()


class Client:
    """One connection that is kept."""

    def __init__(self, port: int, key: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self._headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}

    def timed(self, method: str, path: str, body: object = None) -> float:
        started = time.perf_counter()
        self.ask(method, path, None if body is None else json.dumps(body).encode(), self._headers)
        return time.perf_counter() - started

    def upload(self, data: bytes) -> str:
        text = b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n'
        text += b'--b\r\nContent-Disposition: form-data; name="file"; filename="r.jsonl"\r\n\r\n' + data
        text += b"\r\n--b--\r\n"
        headers = {**self._headers, "content-type": "multipart/form-data; boundary=b"}
        return str(json.loads(self.ask("POST", "/v1/files", text, headers))["id"])

    def ask(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> bytes:
        self._connection.request(method, path, body, headers)
        answer = self._connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise SystemExit(f"{method} {path}: {answer.status} {text[:300]!r}")
        return text


def rate(port: int, key: str, paths: list[str], seconds: float) -> float:
    """Answers a second of some clients at once."""
    counts = [0] * _CLIENTS

    def work(number: int) -> None:
        client = Client(port, key)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            client.timed("GET", paths[(counts[number] * _CLIENTS + number) % len(paths)])
            counts[number] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(_CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / seconds


def write_bare(folder: Path) -> str:
    (folder / "bare.py").write_text(_BARE_APP)
    return str(folder)


def milli(seconds: list[float], share: float) -> str:
    return f"{1000 * sorted(seconds)[min(len(seconds) - 1, int(share * len(seconds)))]:.1f}"


def row(what: str, measured: str, goal: str) -> None:
    print(f"| {what} | {measured} | {goal} |", flush=True)


if __name__ == "__main__":
    main()
