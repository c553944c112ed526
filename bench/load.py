"""G17: many clients at once that read, list and submit jobs, beside a bare endpoint and `pgbench` in the same run.

    python bench/load.py [--clients 200] [--seconds 30] [--jobs 20000] [--workers 2]

Starts a Postgres and a Redis of its own. Each client is of one of 50 teams; it asks, waits for the answer, and asks
again: of ten requests seven read one job, two list twenty, one creates one. The bare endpoints are FastAPI with one
statement each, without keys, audit or checks; they take the same mix from as many clients with as many workers, and
`pgbench` runs their statements. The clients are threads of this program on the same machine, which takes its share of
it: ratios count.
"""

import argparse
import http.client
import json
import os
import random
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import psycopg
from scale import Api, Client, Place, fill, milli, prepare, servers

from app.context import Context, open_context
from app.embedded.postgres import _binaries
from app.factory import Services
from app.identity.policy import Role
from app.settings import to_environment

_OURS, _BARE = 8973, 8974
_MIX = ("read",) * 7 + ("list",) * 2 + ("submit",)
_CONNECTIONS = 40
"""Of `pgbench`: as many as one worker's threads."""
_READ = (
    "SELECT id, team_id, status, base_id, training_file, seed, method, hyperparameters, created_at, finished_at"
    " FROM jobs WHERE id = {}"
)
_LIST = (
    "SELECT id, team_id, status, base_id, training_file, seed, method, hyperparameters, created_at, finished_at"
    " FROM jobs WHERE team_id = {} ORDER BY created_at DESC, id DESC LIMIT 20"
)
_SUBMIT = "INSERT INTO bare_jobs (id, team_id, body) VALUES (gen_random_uuid()::text, {}, {}) RETURNING id"
_BARE_APP = f"""
import json
import os
import threading
import psycopg
from fastapi import FastAPI
from psycopg.rows import dict_row
app = FastAPI()
held = threading.local()
def ask(statement, values):
    if not hasattr(held, "connection"):
        held.connection = psycopg.connect(os.environ["BARE_URL"], row_factory=dict_row, autocommit=True)
    return held.connection.execute(statement, values)
@app.get("/jobs/{{job_id}}")
def read(job_id: str):
    return ask("{_READ.format("%s")}", (job_id,)).fetchone()
@app.get("/jobs")
def page(team: str):
    return ask("{_LIST.format("%s")}", (team,)).fetchall()
@app.post("/jobs")
def submit(team: str, body: dict):
    return ask("{_SUBMIT.format("%s", "%s")}", (team, json.dumps(body))).fetchone()
"""


@dataclass
class Side:
    """One service under load, and the seconds that its answers took, by kind of request."""

    name: str
    port: int
    members: list["Member"]
    request: Callable[["Member", str, random.Random], tuple[str, str, object]]
    seconds: dict[str, list[float]] = field(default_factory=lambda: {kind: [] for kind in dict.fromkeys(_MIX)})
    errors: int = 0


@dataclass(frozen=True)
class Member:
    """A key of one team, the team's jobs, and a file of its own."""

    team: str
    key: str
    ids: list[str]
    file: str = ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=30.0, help="of each service")
    parser.add_argument("--jobs", type=int, default=20_000, help="finished ones that are there before")
    parser.add_argument("--workers", type=int, default=2, help="uvicorn processes of each service")
    options = parser.parse_args()
    with servers() as place:
        measure(options, place)


def measure(options: argparse.Namespace, place: Place) -> None:
    settings = place.settings()
    context = open_context(settings)
    prepare(context, 50)
    fill(place.database_url, argparse.Namespace(finished=options.jobs, queued=0))
    members = join(context, place.database_url)
    context.close()
    (place.folder / "bare.py").write_text(_BARE_APP)
    bare_environment = {"BARE_URL": place.database_url, "PYTHONPATH": str(place.folder)}
    load_average = os.getloadavg()[0]
    with Api("app.main:build", _OURS, to_environment(settings), workers=options.workers) as api:
        line = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
        rows = "\n".join(json.dumps(line) for _ in range(12)).encode()
        members = [replace(member, file=Client(api.port, member.key).upload(rows)) for member in members]
        ours = Side("service", api.port, members, _ours)
        press(ours, options)
    with Api("bare:app", _BARE, bare_environment, workers=options.workers) as api:
        bare = Side("bare", api.port, members, _bare)
        press(bare, options)
    rate, latency = pgbench(place, members[0], options.seconds)
    print(f"{options.clients} clients for {options.seconds:.0f} s each, {options.workers} uvicorn workers, ", end="")
    print(f"{os.cpu_count()} cores, load average before it {load_average:.1f}\n")
    report(ours, bare, options.seconds)
    print(
        f"\n`pgbench`, the bare statements in the same mix, {_CONNECTIONS} connections: {rate:.0f} a second, ", end=""
    )
    print(f"{latency:.1f} ms on average.")


def join(context: Context, database_url: str) -> list[Member]:
    """A key in each team."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE bare_jobs (id text PRIMARY KEY, team_id text NOT NULL, body jsonb NOT NULL)")
        of_teams = connection.execute("SELECT team_id, array_agg(id) FROM jobs GROUP BY team_id").fetchall()
    with context.database.unit_of_work() as work:
        identity = Services(context, work).identity
        return [Member(team, identity.create_key(team, "load", Role.TRAINER)[1], ids) for team, ids in of_teams]


def _ours(member: Member, kind: str, chance: random.Random) -> tuple[str, str, object]:
    if kind == "submit":
        return "POST", "/v1/fine_tuning/jobs", {"model": "tiny", "training_file": member.file}
    return "GET", "/v1/fine_tuning/jobs" + ("" if kind == "list" else f"/{chance.choice(member.ids)}"), None


def _bare(member: Member, kind: str, chance: random.Random) -> tuple[str, str, object]:
    if kind == "submit":
        return "POST", f"/jobs?team={member.team}", {"model": "tiny", "training_file": member.file}
    return "GET", f"/jobs?team={member.team}" if kind == "list" else f"/jobs/{chance.choice(member.ids)}", None


def press(side: Side, options: argparse.Namespace) -> None:
    """All clients at once, each with one connection that is kept; the first second is not counted."""
    began = time.monotonic() + 1
    lock = threading.Lock()

    def work(number: int) -> None:
        chance = random.Random(number)  # noqa: S311 - no secret
        member = side.members[number % len(side.members)]
        client = Client(side.port, member.key)
        while time.monotonic() < began + options.seconds:
            kind = chance.choice(_MIX)
            try:
                took = client.timed(*side.request(member, kind, chance))
            except (SystemExit, OSError, http.client.HTTPException) as error:
                print(f"{side.name}: {error}")
                client = Client(side.port, member.key)
                took = None
            with lock:
                if took is None:
                    side.errors += 1
                elif time.monotonic() > began:
                    side.seconds[kind].append(took)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(options.clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def pgbench(place: Place, member: Member, seconds: float) -> tuple[float, float]:
    """Transactions a second, and their mean milliseconds."""
    with psycopg.connect(place.database_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE bare_ids (number int PRIMARY KEY, id text NOT NULL)")
        with connection.cursor().copy("COPY bare_ids FROM STDIN") as copy:
            for number, job_id in enumerate(member.ids):
                copy.write_row((number, job_id))
    chosen = f"\\set number random(0, {len(member.ids) - 1})\n"
    scripts = {
        "read@7": chosen + _READ.format("(SELECT id FROM bare_ids WHERE number = :number)"),
        "list@2": _LIST.format(f"'{member.team}'"),
        "submit@1": _SUBMIT.format(f"'{member.team}'", '\'{"model": "tiny"}\''),
    }
    command: list[str | Path] = [_binaries() / "pgbench", "-h", place.sockets, "-U", "postgres", "-n", "-M", "prepared"]
    command += ["-c", str(_CONNECTIONS), "-j", "2", "-T", str(max(1, round(seconds / 3)))]
    for name, text in scripts.items():
        path = place.folder / name.partition("@")[0]
        path.write_text(f"{text};\n")
        command += ["-f", f"{path}@{name.partition('@')[2]}"]
    done = subprocess.run([*command, "tunesmith"], check=True, capture_output=True, text=True)
    figures = {}
    for line in done.stdout.splitlines():
        name, _, value = line.partition(" = ")
        figures.setdefault(name.strip(), value)
    return float(figures["tps"].split()[0]), float(figures["latency average"].split()[0])


def report(ours: Side, bare: Side, seconds: float) -> None:
    print("| what | service: a second, p50, p99 ms | bare: a second, p50, p99 ms | rate to bare | p99 to bare |")
    print("|---|---|---|---|---|")
    for kind, mine in ours.seconds.items():
        other = bare.seconds[kind]
        told = [f"{len(one) / seconds:.0f}, {milli(one, 0.5)}, {milli(one, 0.99)}" for one in (mine, other)]
        ratio = float(milli(mine, 0.99)) / float(milli(other, 0.99))
        print(f"| {kind} | {told[0]} | {told[1]} | {len(mine) / len(other):.0%} | {ratio:.1f} |")
    print(f"| errors | {ours.errors} | {bare.errors} | | |")


if __name__ == "__main__":
    main()
