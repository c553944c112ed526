"""The unit of work: one transaction, bells and removals after it, undoing without it."""

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, OperationalError

from app.contracts.tasks import Queue
from app.db.engine import Database, UnitOfWork
from app.db.scope import API, OWNER
from app.db.tables import Team
from workers.supervisor.held_job import is_passing


class Recorder:
    """A broker and a session in one, that writes down what happens."""

    identity_map = ("a row",)

    def __init__(self):
        self.seen = []

    def in_transaction(self):
        return True

    def ring(self, queue):
        self.seen.append(f"ring {queue}")

    def commit(self):
        self.seen.append("commit")

    def rollback(self):
        self.seen.append("rollback")

    def close(self):
        self.seen.append("close")

    def flush(self):
        self.seen.append("flush")


@pytest.fixture
def recorder():
    return Recorder()


@pytest.fixture
def work(recorder):
    return UnitOfWork(recorder, recorder)


def test_bells_ring_once_and_after_the_commit(work, recorder):
    work.ring(Queue.GPU)
    work.ring(Queue.GPU)
    work.on_commit(lambda: recorder.seen.append("removed"))
    work.on_rollback(lambda: recorder.seen.append("undone"))
    work.commit()
    work.close()
    assert recorder.seen == ["commit", "ring gpu", "removed", "rollback", "close"]


def test_what_waits_for_the_end_is_written_after_all_else_once_and_before_the_commit(work, recorder):
    work.before_commit(lambda: recorder.seen.append("first"))
    work.before_commit(lambda: recorder.seen.append("second"))
    work.commit()
    work.commit()
    assert recorder.seen == ["flush", "first", "second", "commit", "commit"]


def test_what_waits_for_the_end_is_forgotten_on_rollback(work, recorder):
    work.before_commit(lambda: recorder.seen.append("first"))
    work.rollback()
    work.commit()
    assert recorder.seen == ["rollback", "commit"]


def test_without_a_commit_nothing_rings_and_everything_is_undone_backwards(work, recorder):
    work.ring(Queue.GPU)
    work.on_commit(lambda: recorder.seen.append("removed"))
    work.on_rollback(lambda: recorder.seen.append("undone 1"))
    work.on_rollback(lambda: recorder.seen.append("undone 2"))
    work.close()
    work.commit()
    assert recorder.seen == ["rollback", "undone 2", "undone 1", "close", "commit"]


def test_a_removal_that_fails_after_the_commit_does_not_fail_the_request(work, recorder, caplog):
    def fail():
        raise OSError("disk away")

    work.on_commit(fail)
    work.on_commit(lambda: recorder.seen.append("second"))
    work.commit()
    assert recorder.seen == ["commit", "second"]
    assert "after the commit failed" in caplog.text


def test_an_exception_in_the_block_rolls_back(context):
    def fail():
        with context.database.unit_of_work() as work:
            work.session.add(Team(id="team_x", name="x", slug="x"))
            work.session.flush()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with context.database.unit_of_work() as work:
        assert work.session.get(Team, "team_x") is None


def test_a_process_that_stands_still_in_a_transaction_loses_its_locks(context, settings):
    stands_still = Database(settings.database_url.get_secret_value(), context.broker, idle_transaction_seconds=0.2)
    with context.database.unit_of_work() as other:
        held = stands_still.open()
        held.session.execute(text("SELECT pg_advisory_xact_lock(4711)"))
        other.session.execute(text("SET LOCAL lock_timeout = '10s'"))
        other.session.execute(text("SELECT pg_advisory_xact_lock(4711)"))
        with pytest.raises(DBAPIError) as refused:
            held.session.execute(text("SELECT 1"))
        assert is_passing(refused.value)
    held.close()
    stands_still.close()


def test_options_of_the_address_are_kept(context, settings):
    url = settings.database_url.get_secret_value()
    database = Database(f"{url}{'&' if '?' in url else '?'}options=-c%20tunesmith.mark%3Dhere", context.broker)
    with database.unit_of_work() as work:
        assert work.session.scalar(text("SELECT current_setting('tunesmith.mark')")) == "here"
    database.close()


@pytest.fixture
def database(settings):
    database = Database(settings.database_url.get_secret_value(), Recorder(), pool_size=1)
    yield database
    database.close()


def cut(database, context):
    """The database ends the connection that lies in the pool."""
    with database.unit_of_work() as work:
        process = work.session.scalar(text("SELECT pg_backend_pid()"))
    with context.database.unit_of_work() as work:
        work.session.execute(text("SELECT pg_terminate_backend(:process, 5000)"), {"process": process})


def test_a_connection_that_died_while_it_lay_idle_is_replaced(database, context, monkeypatch):
    monkeypatch.setattr("app.db.engine._TRUSTED_SECONDS", 0.0)
    cut(database, context)
    with database.unit_of_work() as work:
        assert work.session.scalar(text("SELECT 1")) == 1


@pytest.mark.parametrize("scope", [OWNER, API], ids=["as it logged in", "in a scope"])
def test_one_that_died_a_moment_after_its_use_fails_one_transaction_as_a_database_away(
    database, context, monkeypatch, scope
):
    monkeypatch.setattr("app.db.engine._TRUSTED_SECONDS", 60.0)
    cut(database, context)
    with pytest.raises(OperationalError), database.unit_of_work(scope) as work:
        work.session.scalar(text("SELECT 1"))
    with database.unit_of_work(scope) as work:
        assert work.session.scalar(text("SELECT 1")) == 1


def test_a_connection_in_constant_use_is_not_asked_whether_it_lives(database, monkeypatch):
    monkeypatch.setattr("app.db.engine._TRUSTED_SECONDS", 60.0)
    pings = []
    monkeypatch.setattr(database.engine.dialect, "do_ping", pings.append)
    for _ in range(3):
        with database.unit_of_work() as work:
            work.session.scalar(text("SELECT 1"))
    assert pings == []


def test_columns_are_described_to_who_asks(database):
    with database.engine.connect() as connection:
        cursor = connection.connection.driver_connection.execute("SELECT 1 AS one, 'x' AS two")
        assert [column.name for column in cursor.description] == ["one", "two"]
        assert [column.name for column in cursor.description[1:]] == ["two"]
        assert len(cursor.description) == 2
        with pytest.raises(IndexError):
            cursor.description[2]
        assert connection.connection.driver_connection.execute("SET LOCAL lock_timeout = 0").description is None
