"""What the second wall costs: reads and lists as the API's role beside the same ones without row-level security.

    python bench/row_security.py [--jobs 200000] [--rounds 2000]

Starts its own Postgres. Each round does one request's database work (key, team, read) in both ways, in turns.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=2000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tsm-bench-") as folder:
        measure(Path(folder), given.jobs, given.rounds)


def measure(folder: Path, jobs: int, rounds: int) -> None:
    from app.context import open_context
    from app.db.migrate import upgrade
    from app.embedded.postgres import EmbeddedPostgres
    from app.embedded.sockets import private_socket_folder
    from app.settings import Settings

    sockets = private_socket_folder(folder / "run")
    postgres = EmbeddedPostgres(folder / "postgres", sockets, log_file=folder / "log", durable=False)
    postgres.prepare()
    process = postgres.spawn()
    postgres.wait_ready(process)
    postgres.create_database()
    upgrade(postgres.url())
    for name in ("artifacts", "bases", "scratch"):
        (folder / name).mkdir()
    settings = Settings(
        database_url=postgres.url(),
        redis_url="redis://127.0.0.1:1",
        artifacts_url=(folder / "artifacts").as_uri(),
        bases_dir=folder / "bases",
        scratch_dir=folder / "scratch",
    )
    context = open_context(settings)
    try:
        key, job_id = seed(context, jobs)
        compare(context, key, job_id, rounds)
    finally:
        context.close()
        postgres.stop(process)


def seed(context: Any, jobs: int) -> tuple[str, str]:
    from sqlalchemy import text

    from app.factory import Services
    from app.identity.policy import Role

    with context.database.unit_of_work() as work:
        services = Services(context, work)
        teams = [services.identity.create_team(f"T{number}", f"t{number}") for number in range(20)]
        _, key = services.identity.create_key(teams[0].id, "bench", Role.TRAINER)
        work.session.execute(
            text(
                "INSERT INTO base_models (id, folder, kind, licence, source, context_length, parameters, "
                "has_chat_template, files, weights_sha256) "
                "VALUES ('tiny', 'tiny', 'decoder', 'MIT', 's', 1, 1, true, '{}', '0')"
            )
        )
        work.session.execute(
            text(
                "INSERT INTO jobs (id, team_id, created_by, status, base_id, training_file, seed, method, "
                "hyperparameters, created_at) SELECT 'ftjob-' || n, (CAST(:teams AS text[]))[1 + n % 20], 'k', "
                "'succeeded', 'tiny', 'f', 1, '{}', '{}', now() - n * interval '1 second' "
                "FROM generate_series(0, :jobs - 1) AS n"
            ),
            {"teams": [team.id for team in teams], "jobs": jobs},
        )
        job_id = "ftjob-20"
        for kind, columns, rows in (
            (
                "job_events",
                "id, job_id, level, type, message",
                "'ftevent-' || n, 'ftjob-20', 'info', 'message', 'step'",
            ),
            ("job_metrics", "job_id, step, figures", "'ftjob-20', n, '{\"train_loss\": 1.0}'"),
        ):
            work.session.execute(
                text(f"INSERT INTO {kind} ({columns}) SELECT {rows} FROM generate_series(1, 2000) AS n")  # noqa: S608 - names of ours
            )
    with context.database.engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT").execute(text("VACUUM ANALYZE"))
    return key, job_id


def compare(context: Any, key: str, job_id: str, rounds: int) -> None:
    from app.db.scope import API, OWNER, Scope
    from app.factory import Services
    from app.jobs.repository import JobRepository

    def request(scope: Scope, read: Callable[[JobRepository, str], object]) -> None:
        with context.database.unit_of_work(scope) as work:
            caller = Services(context, work).identity.authenticate(key)
            read(JobRepository(work.session), caller.team_id)

    reads: dict[str, Callable[[JobRepository, str], object]] = {
        "one job": lambda jobs, team: jobs.find(team, job_id),
        "20 jobs": lambda jobs, team: jobs.list(team, after=None, limit=20),
        "20 jobs, deep": lambda jobs, team: jobs.list(team, after="ftjob-100000", limit=20),
        "20 events": lambda jobs, _: jobs.events(job_id, after=None, limit=20),
        "1000 events": lambda jobs, _: jobs.events(job_id, after=None, limit=1000),
        "2000 metrics": lambda jobs, _: jobs.metrics(job_id),
    }
    for name, read in reads.items():
        times: dict[str, list[float]] = {"without": [], "with": []}
        count = rounds if "000" not in name else rounds // 10
        for number in range(count + 50):
            ways = (("without", OWNER), ("with", API))
            for way, scope in ways if number % 2 else reversed(ways):
                started = time.perf_counter()
                request(scope, read)
                if number >= 50:
                    times[way].append(time.perf_counter() - started)
        without, walled = (1000 * statistics.median(times[way]) for way in ("without", "with"))
        figures = {"read": name, "without_ms": round(without, 3), "with_ms": round(walled, 3)}
        print(json.dumps({**figures, "ratio": round(walled / without, 3)}))


if __name__ == "__main__":
    main()
