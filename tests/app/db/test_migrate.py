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


def test_what_was_there_before_tasks_is_chat_on_a_decoder(empty_database_url):
    old = """
        INSERT INTO teams (id, name, slug) VALUES ('t', 't', 't');
        INSERT INTO base_models (id, folder, kind, licence, source, context_length, parameters, has_chat_template,
                                 files, weights_sha256)
        VALUES ('b', 'b', 'causal_lm', 'MIT', 's', 1, 1, true, '{}', '0');
        INSERT INTO jobs (id, team_id, created_by, status, base_id, training_file, seed, method, hyperparameters, spec)
        VALUES ('new', 't', 'k', 'validating_files', 'b', 'f', 1, '{}', '{}', NULL),
               ('old', 't', 'k', 'queued', 'b', 'f', 1, '{}', '{}', '{"recipe": "chat"}');
        INSERT INTO tuned_models (id, team_id, base_id, job_id, step, is_final, adapter_sha256, archive_key,
                                  archive_sha256, archive_bytes, files)
        VALUES ('m', 't', 'b', 'old', 1, true, '0', 'k', '0', 1, '{}');
    """
    migrate.upgrade(empty_database_url)
    migrate.downgrade(empty_database_url, "0001")
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute(old)
    migrate.upgrade(empty_database_url)
    with psycopg.connect(empty_database_url) as connection:
        assert connection.execute("SELECT kind FROM base_models").fetchone() == ("decoder",)
        assert connection.execute("SELECT id, task FROM jobs ORDER BY id").fetchall() == [
            ("new", None),
            ("old", "chat"),
        ]
        told = connection.execute("SELECT recipe, labels, is_multi_label, tuning FROM tuned_models").fetchone()
        assert told == ("chat", None, False, "adapter")
    migrate.downgrade(empty_database_url, "0001")
    with psycopg.connect(empty_database_url) as connection:
        assert connection.execute("SELECT kind FROM base_models").fetchone() == ("causal_lm",)


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
