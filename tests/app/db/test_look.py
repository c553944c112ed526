"""A read in one round trip: the key and the row together, behind both walls, whatever became of the connection."""

import asyncio
from contextlib import AsyncExitStack, suppress

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
        return asyncio.run(self.look(caller, owner, question))

    async def look(self, caller, owner, question=ANY_JOB):
        look = Look(question, {"job_id": self.jobs[owner]}, self.database.looks)
        found = await look.find_key(key_hash(self.keys[caller]))
        return None if found is None else found["team_id"], look.row


def ask_pipeline(pipeline, *questions):
    return asyncio.run(pipeline.ask(*questions))


def end_connections(database):
    """Those that are kept for looks."""
    held = [one.connection.info.backend_pid for one in database.looks._free if one is not None]
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
        async with world.database.looks.one() as pipeline:
            question = b"SELECT current_user::text AS who, current_setting('tunesmith.team_id') AS team"
            return (await pipeline.ask((question, ())))[0]

    row = asyncio.run(ask())
    assert row["who"] != "tunesmith_api"
    assert row["team"] == ""


def test_callers_take_turns_on_one_connection(world):
    for caller in ("a", "b", "a", "b"):
        team, job = world.ask(caller, caller)
        assert (team, job.team_id) == (world.teams[caller], world.teams[caller])


def test_connections_that_the_database_ended_are_not_used_again(world):
    world.ask("a", "a")
    end_connections(world.database)
    with pytest.raises(MissedError):
        world.ask("a", "a")
    team, job = world.ask("a", "a")
    assert (team, job.id) == (world.teams["a"], world.jobs["a"])


def test_more_looks_than_connections_wait_and_all_get_their_own_answer(world):
    async def ask_all():
        slugs = ["ab"[number % 2] for number in range(60)]
        answers = await asyncio.gather(*(world.look(slug, slug) for slug in slugs))
        return [(slug, team, job.id) for slug, (team, job) in zip(slugs, answers, strict=True)]

    for slug, team, job_id in asyncio.run(ask_all()):
        assert (team, job_id) == (world.teams[slug], world.jobs[slug])
    opened = [one for one in world.database.looks._free if one is not None]
    assert 0 < len(opened) <= 10


def test_a_look_that_waits_too_long_is_missed_and_loses_no_connection(world, monkeypatch):
    monkeypatch.setattr("app.db.look._WAIT_SECONDS", 0.05)

    async def ask():
        looks = world.database.looks
        async with AsyncExitStack() as stack:
            for _ in range(10):
                await stack.enter_async_context(looks.one())
            with pytest.raises(MissedError):
                await world.look("a", "a")
        return await asyncio.gather(*(world.look("a", "a") for _ in range(20)))

    assert {job.id for _, job in asyncio.run(ask())} == {world.jobs["a"]}


def test_a_look_that_is_cancelled_leaves_its_connection_to_nobody(world):
    async def ask():
        looks = world.database.looks
        waits = asyncio.create_task(world.look("a", "a"))
        await asyncio.sleep(0)
        waits.cancel()
        with suppress(asyncio.CancelledError):
            await waits
        answers = await asyncio.gather(*(world.look("b", "b") for _ in range(12)))
        assert len(looks._free) == 10
        return {job.id for _, job in answers}

    assert asyncio.run(ask()) == {world.jobs["b"]}


def test_closing_the_database_closes_the_connections_of_looks(world):
    world.ask("a", "a")
    (opened,) = [one.connection for one in world.database.looks._free if one is not None]
    world.database.close()
    assert opened.closed


def test_a_pipeline_of_which_one_statement_fails_does_nothing(servers):
    connection = psycopg.connect(servers.database_url, autocommit=True)
    with psycopg.connect(servers.database_url, autocommit=True) as other:
        other.execute("CREATE TABLE IF NOT EXISTS marks (mark text)")
        try:
            mark = b"INSERT INTO marks VALUES ($1) RETURNING mark", ("m",)
            with pytest.raises(psycopg.OperationalError, match="division by zero"):
                ask_pipeline(Pipeline(connection), mark, (b"SELECT 1 / 0", ()))
            connection.close()
            assert other.execute("SELECT * FROM marks").fetchall() == []
        finally:
            other.execute("DROP TABLE marks")


def test_a_pipeline_prepares_each_statement_once(servers):
    connection = psycopg.connect(servers.database_url, autocommit=True)
    pipeline = Pipeline(connection)
    statement = b"SELECT $1::text AS text, (SELECT count(*) FROM pg_prepared_statements) AS prepared"
    answers = [ask_pipeline(pipeline, (statement, (value,)))[0] for value in ("a", "ä", "")]
    assert [answer["text"] for answer in answers] == ["a", "ä", ""]
    assert {answer["prepared"] for answer in answers} == {1}
    assert ask_pipeline(pipeline, (b"SELECT 1 AS one WHERE false", ())) == [None]
    connection.close()


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
