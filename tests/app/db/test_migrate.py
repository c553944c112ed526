"""The migrations make exactly the tables the code has, on an empty database, and can be taken back."""

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import create_engine, inspect
from sqlalchemy.pool import NullPool

from app.db import migrate
from app.db.base import Base
from app.db.engine import driver_url


@pytest.fixture
def empty_database_url(servers):
    with psycopg.connect(servers.database_url, autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS migration_test WITH (FORCE)")
        connection.execute("CREATE DATABASE migration_test")
        name = connection.info.dbname
    yield servers.database_url.replace(f"/{name}", "/migration_test", 1)
    with psycopg.connect(servers.database_url, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE migration_test WITH (FORCE)"))


def table_names(url):
    engine = create_engine(driver_url(url), poolclass=NullPool)
    with engine.connect() as connection:
        return set(inspect(connection).get_table_names())


def test_an_empty_database_comes_to_the_shape_of_the_code(empty_database_url):
    migrate.upgrade(empty_database_url)
    migrate.check(empty_database_url)
    assert table_names(empty_database_url) == {*Base.metadata.tables, "alembic_version"}


def test_upgrading_twice_changes_nothing(empty_database_url):
    migrate.upgrade(empty_database_url)
    migrate.upgrade(empty_database_url)
    migrate.check(empty_database_url)


def test_a_downgrade_leaves_nothing_behind_and_the_way_up_is_open_again(empty_database_url):
    migrate.upgrade(empty_database_url)
    migrate.downgrade(empty_database_url, "base")
    assert table_names(empty_database_url) == {"alembic_version"}
    migrate.upgrade(empty_database_url)
    migrate.check(empty_database_url)


@pytest.mark.parametrize(
    "statement", ["UPDATE audit_events SET actor = 'x'", "DELETE FROM audit_events", "TRUNCATE audit_events"]
)
def test_an_audit_event_can_be_neither_changed_nor_removed(services, servers, statement):
    with services() as s:
        s.audit.record(None, "system", "test.write", "x")
    with (
        psycopg.connect(servers.database_url) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"),
    ):
        connection.execute(statement)
