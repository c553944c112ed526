"""A read in one round trip: the key and the row together, behind both walls, whatever became of the connection."""

import asyncio
from contextlib import suppress

import psycopg
import pytest
from sqlalchemy import bindparam, select

from app.db.look import Look, MissedError, Question
from app.db.pipeline import Pipeline
from app.db.scope import API
from app.db.tables import ApiKey, Job
from app.identity.keys import key_hash, make_key
from app.identity.policy import Role
from app.jobs.repository import FIND_TRAINING
from tests.support.team_objects import add_base, add_objects

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
        return asyncio.run(self.look(caller, owner, question))

    async def look(self, caller, owner, question=ANY_JOB):
        look = Look(question, {"job_id": self.jobs[owner]}, self.database.looks)
        found = await look.find_key(key_hash(self.keys[caller]))
        return None if found is None else found["team_id"], look.row


def ask_pipeline(connection, *questions, at_once=False):
    """Answers to questions, each of one statement, one after the other or all at once."""

    async def ask():
        pipeline = Pipeline(connection, asyncio.get_running_loop())
        if at_once:
            return await asyncio.gather(*(pipeline.ask(one) for one in questions), return_exceptions=True)
        return [(await pipeline.ask(one))[0] for one in questions]

    try:
        return asyncio.run(ask())
    finally:
        connection.close()


def end_connections(database):
    """Those that are kept for looks."""
    held = [opened.result().connection.info.backend_pid for opened in database.looks._pipelines.values()]
    assert held
    with psycopg.connect(database.engine.url.render_as_string(hide_password=False).replace("+psycopg", "")) as other:
        for process in held:
            other.execute("SELECT pg_terminate_backend(%s, 5000)", (process,))


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
    async def ask():
        await world.look("a", "a")
        pipeline = await world.database.looks.pipeline()
        question = b"SELECT current_user::text AS who, current_setting('tunesmith.team_id') AS team"
        return (await pipeline.ask((question, ())))[0]

    row = asyncio.run(ask())
    assert row["who"] != "tunesmith_api"
    assert row["team"] == ""


def test_many_at_once_share_one_connection_and_all_get_their_own_answer(world):
    async def ask_all():
        slugs = ["ab"[number % 2] for number in range(200)]
        answers = await asyncio.gather(*(world.look(slug, slug) for slug in slugs))
        assert len(world.database.looks._pipelines) == 1
        return [(slug, team, job.id) for slug, (team, job) in zip(slugs, answers, strict=True)]

    for slug, team, job_id in asyncio.run(ask_all()):
        assert (team, job_id) == (world.teams[slug], world.jobs[slug])


def test_a_connection_that_the_database_ended_is_replaced(world):
    async def ask():
        await world.look("a", "a")
        end_connections(world.database)
        with suppress(MissedError):  # unless the loop has heard of the end already
            await world.look("a", "a")
        return await world.look("a", "a")

    team, job = asyncio.run(ask())
    assert (team, job.id) == (world.teams["a"], world.jobs["a"])


def test_a_look_that_is_cancelled_disturbs_no_other(world):
    async def ask():
        await world.look("a", "a")
        waits = [asyncio.create_task(world.look("a", "a")) for _ in range(10)]
        await asyncio.sleep(0)
        for one in waits[::2]:
            one.cancel()
        kept = await asyncio.gather(*waits[1::2])
        return [*kept, await world.look("b", "b")]

    assert [job.id for _, job in asyncio.run(ask())] == [world.jobs["a"]] * 5 + [world.jobs["b"]]


def test_the_connection_of_a_loop_that_ended_is_closed_by_the_next(world):
    world.ask("a", "a")
    (first,) = [opened.result().connection for opened in world.database.looks._pipelines.values()]
    world.ask("a", "a")
    assert first.closed
    assert len(world.database.looks._pipelines) == 1


def test_closing_the_database_closes_the_connection_of_looks(world):
    world.ask("a", "a")
    (opened,) = [opened.result().connection for opened in world.database.looks._pipelines.values()]
    world.database.close()
    assert opened.closed


def test_a_pipeline_of_which_one_statement_fails_does_nothing(servers):
    with psycopg.connect(servers.database_url, autocommit=True) as other:
        other.execute("CREATE TABLE IF NOT EXISTS marks (mark text)")
        try:

            async def ask():
                connection = psycopg.connect(servers.database_url, autocommit=True)
                pipeline = Pipeline(connection, asyncio.get_running_loop())
                mark = b"INSERT INTO marks VALUES ($1) RETURNING mark", ("m",)
                with pytest.raises(psycopg.OperationalError, match="division by zero"):
                    await pipeline.ask(mark, (b"SELECT 1 / 0", ()))
                assert connection.closed

            asyncio.run(ask())
            assert other.execute("SELECT * FROM marks").fetchall() == []
        finally:
            other.execute("DROP TABLE marks")


def test_a_pipeline_prepares_each_statement_once(servers):
    statement = b"SELECT $1::text AS text, (SELECT count(*) FROM pg_prepared_statements) AS prepared"
    questions = [*((statement, (value,)) for value in ("a", "ä", "")), (b"SELECT 1 AS one WHERE false", ())]
    *answers, none = ask_pipeline(psycopg.connect(servers.database_url, autocommit=True), *questions)
    assert [answer["text"] for answer in answers] == ["a", "ä", ""]
    assert {answer["prepared"] for answer in answers} == {1}
    assert none is None


def test_questions_larger_than_the_sockets_room_arrive_whole(servers):
    texts = [str(number) * 100_000 for number in range(40)]
    questions = [(b"SELECT length($1::text) AS length, left($1::text, 2) AS first", (text,)) for text in texts]
    answers = ask_pipeline(psycopg.connect(servers.database_url, autocommit=True), *questions, at_once=True)
    assert [answer["length"] for (answer,) in answers] == [len(text) for text in texts]
    assert [answer["first"] for (answer,) in answers] == [text[:2] for text in texts]


def test_an_error_is_told_to_all_who_wait_behind_it(servers):
    questions = [(b"SELECT 1 AS one", ()), (b"SELECT 1 / 0", ()), (b"SELECT 2 AS two", ())]
    first, *others = ask_pipeline(psycopg.connect(servers.database_url, autocommit=True), *questions, at_once=True)
    assert first == [{"one": 1}]
    assert [type(one) for one in others] == [psycopg.OperationalError] * 2


def path_of(world, slug):
    return f"/v1/fine_tuning/jobs/{world.jobs[slug]}"


def headers_of(world, slug):
    return {"authorization": f"Bearer {world.keys[slug]}"}


def test_a_request_does_not_notice_that_its_connection_was_ended(world, client):
    assert client.get(path_of(world, "a"), headers=headers_of(world, "a")).status_code == 200
    end_connections(world.database)
    for _ in range(3):
        answer = client.get(path_of(world, "a"), headers=headers_of(world, "a"))
        assert (answer.status_code, answer.json()["id"]) == (200, world.jobs["a"])


@pytest.mark.parametrize("is_missed", [False, True])
def test_both_ways_answer_alike(world, client, monkeypatch, is_missed):
    if is_missed:

        async def miss(look, sha256):
            raise MissedError

        monkeypatch.setattr(Look, "find_key", miss)
    own = client.get(path_of(world, "a"), headers=headers_of(world, "a"))
    assert (own.status_code, own.json()["id"]) == (200, world.jobs["a"])
    others = client.get(path_of(world, "b"), headers=headers_of(world, "a"))
    absent = client.get("/v1/fine_tuning/jobs/ftjob-absent", headers=headers_of(world, "a"))
    assert others.status_code == absent.status_code == 404
    assert others.json()["error"]["code"] == absent.json()["error"]["code"]
    assert client.get(path_of(world, "a"), headers={"authorization": "Bearer sk-nobody"}).status_code == 401


def test_the_use_of_a_key_is_noted_by_a_look_too(world, client, services):
    client.get(path_of(world, "a"), headers=headers_of(world, "a"))
    with services() as s:
        used_at = s.work.session.scalars(select(ApiKey.last_used_at).where(ApiKey.sha256 == key_hash(world.keys["a"])))
        assert used_at.one() is not None
