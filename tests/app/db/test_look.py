"""A read in one round trip: the key and the row together, behind both walls, whatever became of the connection."""

import threading
from queue import Empty

import psycopg
import pytest
from sqlalchemy import bindparam, event, text

from app.db.look import Look, Question
from app.db.pipeline import Pipeline
from app.db.scope import API
from app.db.tables import Job
from app.identity.keys import key_hash, make_key
from app.identity.policy import Role
from app.jobs.repository import FIND_TRAINING
from tests.support.authorization import add_base, add_objects

ANY_JOB = Question(Job, Job.id == bindparam("job_id"))


@pytest.fixture
def world(services, context):
    """Two teams, each with a key and a job; `ask(slug, job of)` looks as the API would."""
    with services() as s:
        add_base(s.work.session)
        teams = {slug: s.identity.create_team(slug, slug).id for slug in ("a", "b")}
        jobs = {slug: add_objects(s.work.session, team).ids["job_id"] for slug, team in teams.items()}
        keys = {slug: s.identity.create_key(team, "k", Role.VIEWER)[1] for slug, team in teams.items()}
    return World(context.database.within(API), teams, jobs, keys)


class World:
    def __init__(self, database, teams, jobs, keys):
        self.database = database
        self.teams = teams
        self.jobs = jobs
        self.keys = keys

    def ask(self, caller, owner, question=ANY_JOB):
        """The team of the key that was found, and the job."""
        look = Look(question, {"job_id": self.jobs[owner]}, self.database.looks)
        with self.database.unit_of_work() as work:
            found = look.find_key(work.session, key_hash(self.keys[caller]))
        return None if found is None else found["team_id"], look.row


def end_connections(database):
    with psycopg.connect(database.engine.url.render_as_string(hide_password=False).replace("+psycopg", "")) as other:
        ended = other.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE application_name = 'tunesmith' AND datname = current_database() AND state LIKE 'idle%'"
        ).fetchall()
    assert ended


def test_the_key_and_the_row_of_its_team_come_together(world):
    team, job = world.ask("a", "a")
    assert team == world.teams["a"]
    assert (job.id, job.team_id, job.purpose) == (world.jobs["a"], world.teams["a"], "training")


def test_the_row_is_what_a_session_reads(world, services):
    _, job = world.ask("a", "a", FIND_TRAINING)
    with services() as s:
        same = s.work.session.get(Job, job.id)
        names = [attribute.key for attribute in Job.__mapper__.column_attrs]
        assert [getattr(job, name) for name in names] == [getattr(same, name) for name in names]


def test_the_question_forgets_the_team_and_the_wall_does_not(world):
    assert "team_id =" not in ANY_JOB.statement.decode()
    assert world.ask("a", "b") == (world.teams["a"], None)
    assert world.ask("b", "b")[1] is not None


def test_an_unknown_key_finds_nothing(world):
    world.keys["nobody"] = make_key().text
    assert world.ask("nobody", "a") == (None, None)


def test_a_connection_remembers_neither_role_nor_team(world):
    world.ask("a", "a")
    with world.database.looks.one() as pipeline:
        (row,) = pipeline.ask((b"SELECT current_user::text AS who, current_setting('tunesmith.team_id') AS team", ()))
    assert row["who"] != "tunesmith_api"
    assert row["team"] == ""


def test_callers_take_turns_on_one_connection(world):
    for caller in ("a", "b", "a", "b"):
        team, job = world.ask(caller, caller)
        assert (team, job.team_id) == (world.teams[caller], world.teams[caller])


def test_a_look_begins_no_transaction_of_its_session(world):
    begun = []
    with world.database.unit_of_work() as work:
        event.listen(work.session, "after_begin", lambda *_: begun.append(1))
        look = Look(ANY_JOB, {"job_id": world.jobs["a"]}, world.database.looks)
        look.find_key(work.session, key_hash(world.keys["a"]))
        assert look.row is not None
    assert begun == []


def test_a_look_after_other_statements_is_refused(world):
    look = Look(ANY_JOB, {"job_id": world.jobs["a"]}, world.database.looks)
    with world.database.unit_of_work() as work:
        work.session.execute(text("SELECT 1"))
        with pytest.raises(RuntimeError, match="begins a request"):
            look.find_key(work.session, key_hash(world.keys["a"]))


def test_connections_that_the_database_ended_are_replaced_and_the_request_does_not_notice(world):
    world.ask("a", "a")
    end_connections(world.database)
    for _ in range(3):
        team, job = world.ask("a", "a")
        assert (team, job.id) == (world.teams["a"], world.jobs["a"])


def test_without_a_free_connection_the_row_comes_the_ordinary_way(world, monkeypatch):
    def none_free():
        raise Empty

    monkeypatch.setattr(world.database.looks, "one", none_free)
    assert world.ask("a", "a")[1].id == world.jobs["a"]
    assert world.ask("a", "b") == (world.teams["a"], None)


def test_more_threads_than_connections_all_get_their_own_answer(world):
    wrong = []

    def ask(slug):
        for _ in range(10):
            team, job = world.ask(slug, slug)
            if (team, job.id) != (world.teams[slug], world.jobs[slug]):
                wrong.append(slug)

    threads = [threading.Thread(target=ask, args=("ab"[number % 2],)) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_closing_the_database_closes_the_connections_of_looks(world):
    world.ask("a", "a")
    with world.database.looks.one() as pipeline:
        connection = pipeline.connection
    world.database.close()
    assert connection.closed


def test_a_pipeline_of_which_one_statement_fails_does_nothing(servers):
    connection = psycopg.connect(servers.database_url, autocommit=True)
    with psycopg.connect(servers.database_url, autocommit=True) as other:
        other.execute("CREATE TABLE IF NOT EXISTS marks (mark text)")
        try:
            pipeline = Pipeline(connection)
            with pytest.raises(psycopg.OperationalError, match="division by zero"):
                pipeline.ask((b"INSERT INTO marks VALUES ($1) RETURNING mark", ("m",)), (b"SELECT 1 / 0", ()))
            connection.close()
            assert other.execute("SELECT * FROM marks").fetchall() == []
        finally:
            other.execute("DROP TABLE marks")


def test_a_pipeline_prepares_each_statement_once(servers):
    connection = psycopg.connect(servers.database_url, autocommit=True)
    pipeline = Pipeline(connection)
    statement = b"SELECT $1::text AS text, (SELECT count(*) FROM pg_prepared_statements) AS prepared"
    answers = [pipeline.ask((statement, (value,)))[0] for value in ("a", "ä", "")]
    assert [answer["text"] for answer in answers] == ["a", "ä", ""]
    assert {answer["prepared"] for answer in answers} == {1}
    assert pipeline.ask((b"SELECT 1 AS one WHERE false", ())) == [None]
    connection.close()
