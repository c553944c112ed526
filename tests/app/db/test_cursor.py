"""The driver's cursor as we use it: batches that can be ended from outside at any point."""

import pytest
from psycopg.pq import PipelineStatus
from sqlalchemy import event, insert, text

from app.db.tables import Team

THREE = ("one", "two", "three")
TEAMS = [{"id": f"team-{name}", "name": name, "slug": name} for name in THREE]


@pytest.fixture
def session(context):
    with context.database.unit_of_work() as work:
        yield work.session
        work.rollback()


def test_no_batch_opens_a_pipeline_in_which_the_database_would_wait_for_ever(session):
    connection = session.connection().connection.driver_connection
    seen = []

    def rows():
        for number in range(3):
            seen.append(connection.pgconn.pipeline_status)
            yield (number,)

    connection.cursor().executemany("SELECT %s::int", rows())
    assert seen == [PipelineStatus.OFF] * 3


def test_a_batch_counts_the_rows_of_all_its_parts(session):
    session.execute(insert(Team), TEAMS)
    statement = text("UPDATE teams SET name = :new WHERE name = :old")
    changes = [{"new": f"new {name}", "old": name} for name in (*THREE, "nobody")]
    assert session.connection().execute(statement, changes).rowcount == len(THREE)


def test_rows_of_one_table_are_written_by_one_statement(session):
    sent = []
    connection = session.connection()
    event.listen(connection, "before_cursor_execute", lambda *told: sent.append(told[2]))
    session.execute(insert(Team), TEAMS)
    (statement,) = sent
    assert statement.count("VALUES (") == 1
    assert statement.count("slug__") == len(THREE)
    assert session.scalar(text("SELECT count(*) FROM teams WHERE slug = ANY(:slugs)"), {"slugs": list(THREE)}) == 3
