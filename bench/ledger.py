"""How long reports over a large ledger take: a year of lines of 50 teams and 200 keys, Postgres from the wheel.

    python bench/ledger.py [--lines 1000000]

Prints the median of seven runs of each question.
"""

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from app.db.engine import driver_url
from app.db.migrate import upgrade
from app.embedded.postgres import EmbeddedPostgres
from app.embedded.sockets import private_socket_folder
from app.usage.budgets import month_of
from app.usage.repository import UsageRepository
from migrations.released import REVISION

DAY = timedelta(days=1)
_TEAMS = "INSERT INTO teams (id, name, slug) SELECT 't' || i, 't', 't' || i FROM generate_series(1, 50) i"
_LINES = """
INSERT INTO usage_records (team_id, member, object_id, kind, source, device_kind, quantity, started_at, ended_at, cost)
SELECT 't' || (1 + i % 50), 'key:k' || (i % 200), 'j' || i,
       (ARRAY['gpu_seconds', 'energy_wh', 'trained_tokens'])[1 + i % 3], i::text, 'cuda', 600,
       now() - i * interval '365 days' / %(lines)s, now() - i * interval '365 days' / %(lines)s + interval '10 min', 0.1
FROM generate_series(1, %(lines)s) i
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=1_000_000)
    lines = parser.parse_args().lines
    with database() as url:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(_TEAMS)
            connection.execute(_LINES.replace("%(lines)s", str(lines)))
            connection.execute("ANALYZE usage_records")
        began = time.perf_counter()
        upgrade(url)
        print(f"migrating from {REVISION}, which counts the months: {time.perf_counter() - began:.1f} s")
        engine = create_engine(driver_url(url))
        with Session(engine) as session:
            ask(UsageRepository(session), lines)
        engine.dispose()


def ask(repository: UsageRepository, lines: int) -> None:
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    start, end = today - 29 * DAY, today + DAY
    month, following = month_of(today)
    questions: dict[str, Callable[[], object]] = {
        "one team, 30 days by day": lambda: repository.buckets(start=start, end=end, step=DAY, team_ids=["t1"]),
        "all teams, 30 days by day": lambda: repository.buckets(start=start, end=end, step=DAY, team_ids=None),
        "one team, this month, from the lines": lambda: repository.buckets(
            start=month, end=following, step=following - month, team_ids=["t1"]
        ),
        "one team, this month, as counted (what a submit with a budget asks)": lambda: repository.month(
            "t1", month.date()
        ),
    }
    print(f"{lines} lines")
    for name, question in questions.items():
        took = []
        for _ in range(7):
            began = time.perf_counter()
            question()
            took.append(time.perf_counter() - began)
        print(f"{name}: {1000 * statistics.median(took):.1f} ms")


@contextmanager
def database() -> Iterator[str]:
    folder = Path(tempfile.mkdtemp(prefix="tsm-bench-"))
    postgres = EmbeddedPostgres(
        folder / "postgres", private_socket_folder(folder / "run"), log_file=folder / "log", durable=False
    )
    postgres.prepare()
    process = postgres.spawn()
    try:
        postgres.wait_ready(process)
        postgres.create_database()
        upgrade(postgres.url(), REVISION)
        yield postgres.url()
    finally:
        postgres.stop(process)
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
