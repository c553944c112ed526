"""Fixtures `servers` and `database_url`: one Postgres and one Redis for each xdist worker.

TUNESMITH_DATABASE_URL and TUNESMITH_REDIS_URL are used instead where set.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
import redis
from psycopg import sql

from app.db.migrate import upgrade
from app.db.tables import ApiKey
from app.embedded.postgres import EmbeddedPostgres
from app.embedded.redis import EmbeddedRedis
from app.embedded.sockets import private_socket_folder


@dataclass(frozen=True)
class Servers:
    """Addresses for this worker alone; the database is empty and migrated."""

    database_url: str
    redis_url: str

    def connect_redis(self) -> redis.Redis:
        if self.redis_url.startswith("redis+socket://"):
            return redis.Redis(unix_socket_path=self.redis_url.removeprefix("redis+socket://"))
        return redis.Redis.from_url(self.redis_url)


@pytest.fixture(scope="session")
def servers(worker_number: int) -> Iterator[Servers]:
    """Running and migrated; started at first use, gone at the end."""
    folder = Path(tempfile.mkdtemp(prefix="tsm-test-"))
    sockets = private_socket_folder(folder / "run")
    stops = []
    try:
        database_url = os.environ.get("TUNESMITH_DATABASE_URL")
        if database_url:
            database_url = _fresh_database(database_url, f"tunesmith_test_{worker_number}")
        else:
            postgres = EmbeddedPostgres(folder / "postgres", sockets, log_file=folder / "postgres.log", durable=False)
            postgres.prepare()
            process = postgres.spawn()
            stops.append(lambda: postgres.stop(process))
            postgres.wait_ready(process)
            postgres.create_database()
            database_url = postgres.url()
        redis_url = os.environ.get("TUNESMITH_REDIS_URL")
        if not redis_url:
            broker = EmbeddedRedis(sockets, log_file=folder / "redis.log")
            broker_process = broker.spawn()
            stops.append(lambda: broker.stop(broker_process))
            broker.wait_ready(broker_process)
            redis_url = broker.url
        upgrade(database_url)
        yield Servers(database_url, redis_url)
    finally:
        for stop in reversed(stops):
            stop()
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def worker_number() -> int:
    """0 without xdist, else the number of the xdist worker."""
    return int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))


@pytest.fixture
def clean_servers(servers: Servers) -> Iterator[Servers]:
    """`servers`, emptied after the test."""
    yield servers
    _empty(servers.database_url)
    client = servers.connect_redis()
    client.flushall()
    client.close()


def _empty(database_url: str) -> None:
    """Truncate all tables, triggers off (the audit table refuses deletions)."""
    tables = ApiKey.metadata.sorted_tables
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        # A connection that a test left open must not hang the suite.
        connection.execute("SET lock_timeout = '10s'")
        names = sql.SQL(", ").join(sql.Identifier(table.name) for table in tables)
        connection.execute(sql.SQL("TRUNCATE {} RESTART IDENTITY CASCADE").format(names))


def _fresh_database(server_url: str, name: str) -> str:
    """Drop and create the database `name` on a given server; its URL."""
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    address, _, query = server_url.partition("?")
    return f"{address.rpartition('/')[0]}/{name}" + (f"?{query}" if query else "")
