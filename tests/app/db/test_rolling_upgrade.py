"""Every migration after the last release leaves that release's processes at work (decision 0013)."""

import threading
import time
from pathlib import Path

import psycopg
import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from app.db import migrate
from app.db.engine import driver_url
from migrations import released
from tests.app.db.test_migrate import empty_database_url  # noqa: F401 - a fixture
from tests.support.schema_shape import breaches, shape_of

EXCEPTIONS: dict[str, set[str]] = {
    # Of the few open leases: building it reads the table once, 0.2 seconds for a million leases. A build beside writers
    # that gives way to a lock would leave a broken index behind.
    "0015": {
        (
            "gpu_leases gets the index ix_gpu_leases_worker_open and nobody can write meanwhile: "
            "build it concurrently, in an autocommit block"
        )
    }
}
"""By revision, breaches that were thought over, each with a comment on why no process of the last release meets it."""


def revisions():
    """After the last release, oldest first."""
    script = ScriptDirectory.from_config(migrate.configuration())
    return sorted(script.iterate_revisions("head", released.REVISION), key=lambda found: found.revision)


def shape(url):
    engine = create_engine(driver_url(url), poolclass=NullPool)
    with engine.connect() as connection:
        return shape_of(connection)


def test_no_migration_breaks_or_holds_up_the_code_of_the_last_release(empty_database_url):  # noqa: F811
    migrate.upgrade(empty_database_url, released.REVISION)
    first = before = shape(empty_database_url)
    for revision in revisions():
        migrate.upgrade(empty_database_url, revision.revision)
        after = shape(empty_database_url)
        found = set(breaches(before, after)) | blocking_indexes(before, after, Path(revision.path).read_text())
        assert found == EXCEPTIONS.get(revision.revision, set()), revision.revision
        before = after
    assert set(breaches(first, before)) <= set().union(*EXCEPTIONS.values())


def blocking_indexes(before, after, source):
    """Building an index the usual way lets nobody write meanwhile."""
    return {
        f"{table} gets the index {name} and nobody can write meanwhile: build it concurrently, in an autocommit block"
        for table, name in after.indexes.keys() - before.indexes.keys()
        if table in before.tables and "postgresql_concurrently=True" not in source
    }


@pytest.mark.parametrize(
    ("statement", "breach"),
    [
        ("DROP TABLE webhook_deliveries", "the table webhook_deliveries is gone"),
        ("ALTER TABLE workers RENAME TO hosts", "the table workers is gone"),
        ("ALTER TABLE jobs DROP COLUMN estimate", "jobs.estimate is gone"),
        ("ALTER TABLE jobs RENAME COLUMN estimate TO quote", "jobs.estimate is gone"),
        ("ALTER TABLE jobs ALTER COLUMN losses TYPE bigint", "jobs.losses is bigint and was integer"),
        ("ALTER TABLE jobs ALTER COLUMN losses TYPE bigint", "jobs is written anew while everybody waits"),
        ("ALTER TABLE jobs ALTER COLUMN spec SET NOT NULL", "jobs.spec must now be given"),
        ("ALTER TABLE jobs ALTER COLUMN losses DROP DEFAULT", "jobs.losses has no default any more"),
        ("ALTER TABLE jobs ADD COLUMN more text NOT NULL", "jobs.more is new and must be given"),
        (
            "ALTER TABLE jobs ADD COLUMN more timestamptz NOT NULL DEFAULT clock_timestamp()",
            "jobs is written anew while everybody waits",
        ),
        (
            "ALTER TABLE jobs ADD CONSTRAINT few CHECK (losses < 3)",
            "jobs has the new rule few: CHECK ((losses < 3))",
        ),
        ("CREATE UNIQUE INDEX one ON jobs (seed)", "jobs has the new unique index one"),
        (
            "DROP FUNCTION tunesmith_find_key(bytea)",
            "the function tunesmith_find_key(bytea) is gone or answers in another shape",
        ),
        ("REVOKE UPDATE ON jobs FROM tunesmith_worker", "the right tunesmith_worker UPDATE on jobs is gone"),
    ],
)
def test_what_would_break_the_code_of_the_last_release_is_seen(servers, statement, breach):
    engine = create_engine(driver_url(servers.database_url), poolclass=NullPool)
    with engine.connect() as connection:
        before = shape_of(connection)
        connection.execute(text(statement))
        assert breach in breaches(before, shape_of(connection))
        connection.rollback()


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE jobs ADD COLUMN more text",
        "ALTER TABLE jobs ADD COLUMN more integer NOT NULL DEFAULT 0",
        "ALTER TABLE jobs ALTER COLUMN seed DROP NOT NULL",
        "CREATE TABLE more (id text PRIMARY KEY, needed text NOT NULL)",
        "CREATE INDEX more ON jobs (seed)",
    ],
)
def test_what_only_widens_is_allowed(servers, statement):
    engine = create_engine(driver_url(servers.database_url), poolclass=NullPool)
    with engine.connect() as connection:
        before = shape_of(connection)
        connection.execute(text(statement))
        assert breaches(before, shape_of(connection)) == []
        connection.rollback()


def test_a_migration_that_meets_a_lock_gives_way_to_those_behind_it(empty_database_url, monkeypatch):  # noqa: F811
    """A long reader holds a table; the migration wants it for itself; a third one wants to read."""
    monkeypatch.setattr(migrate, "LOCK_SECONDS", 0.2)
    monkeypatch.setattr(migrate, "GIVE_WAY_SECONDS", 0.2)
    migrate.upgrade(empty_database_url, released.REVISION)
    migrating = threading.Thread(target=migrate.upgrade, args=(empty_database_url,))
    with psycopg.connect(empty_database_url) as reader:
        reader.execute("LOCK TABLE team_members, teams, api_keys IN ACCESS SHARE MODE")
        migrating.start()
        with psycopg.connect(empty_database_url, autocommit=True) as other:
            wait_for_waiter(other)
            waited = 0.0
            for _ in range(20):
                began = time.monotonic()
                other.execute("SELECT count(*) FROM team_members")
                waited = max(waited, time.monotonic() - began)
        assert migrating.is_alive()
        assert waited < 1.0
        reader.rollback()
    migrating.join(60)
    assert not migrating.is_alive()
    migrate.check(empty_database_url)


def wait_for_waiter(connection):
    deadline = time.monotonic() + 20
    while not connection.execute("SELECT 1 FROM pg_locks WHERE NOT granted AND locktype = 'relation'").fetchone():
        assert time.monotonic() < deadline, "the migration never waited for the lock"
