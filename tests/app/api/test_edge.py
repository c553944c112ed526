"""The edge of a request: an answer of success leaves only after its commit, and nothing is kept open behind it."""

import asyncio
import threading

import anyio.to_thread
import httpx
import pytest
from fastapi import APIRouter, Request
from fastapi.testclient import TestClient
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from app.api.dependencies import ServicesDep
from app.api.edge import WorkRoute, release
from app.identity.policy import Role
from app.main import create_app


@pytest.fixture
def own_client(context):
    """A client of an application with extra routes, which the test adds."""
    router = APIRouter(route_class=WorkRoute)

    def build():
        api = create_app(context)
        # These routes ask for no key, and make teams, which the API's role may not.
        api.state.context = context
        api.router.routes.extend(router.routes)
        return TestClient(api, raise_server_exceptions=False)

    return router, build


def teams(context):
    from app.db.tables import Team  # noqa: PLC0415

    with context.database.unit_of_work() as work:
        return {team.slug for team in work.session.query(Team)}


def test_a_commit_that_fails_is_no_success(own_client, monkeypatch, context):
    router, build = own_client

    @router.post("/make")
    def make(services: ServicesDep) -> dict[str, bool]:
        services.identity.create_team("A", "made")
        return {"made": True}

    def fail(self):
        raise OperationalError("COMMIT", {}, Exception("gone"))

    with build() as client, monkeypatch.context() as patch:
        patch.setattr(Session, "commit", fail)
        assert client.post("/make").status_code == 503
    assert "made" not in teams(context)


def test_an_error_after_a_write_rolls_it_back_and_undoes_the_rest(own_client, context):
    router, build = own_client
    undone = []

    @router.post("/make")
    def make(services: ServicesDep) -> None:
        services.identity.create_team("A", "made")
        services.work.on_rollback(lambda: undone.append(True))
        raise ZeroDivisionError

    with build() as client:
        assert client.post("/make").status_code == 500
    assert "made" not in teams(context)
    assert undone == [True]


def test_a_stream_begins_after_the_connection_went_back(own_client, context):
    router, build = own_client
    pool = context.database.engine.pool
    in_use = []

    @router.get("/stream")
    def stream(services: ServicesDep) -> StreamingResponse:
        services.identity.create_team("A", "streamed")
        in_use.append(pool.checkedout())

        def body():
            in_use.append(pool.checkedout())
            yield b"x"

        return StreamingResponse(body())

    with build() as client:
        assert client.get("/stream").content == b"x"
    assert in_use == [1, 0]
    assert "streamed" in teams(context)


def test_release_commits_and_gives_the_connection_back_in_the_middle(own_client, context):
    router, build = own_client
    pool = context.database.engine.pool
    seen = {}

    @router.post("/slow")
    async def slow(request: Request, services: ServicesDep) -> None:
        services.identity.create_team("A", "before")
        await release(request)
        seen["in_use"] = pool.checkedout()
        services.identity.create_team("B", "after")
        raise ZeroDivisionError

    with build() as client:
        client.post("/slow")
    assert seen["in_use"] == 0
    assert teams(context) & {"before", "after"} == {"before"}


def test_requests_that_wait_for_a_row_do_not_keep_its_holder_from_ending(own_client):
    """Each takes a thread to wait in; the one that holds the lock needs another to commit."""
    router, build = own_client
    count = 60

    @router.post("/lock")
    async def lock(services: ServicesDep) -> dict[str, bool]:
        await run_in_threadpool(services.work.session.execute, text("SELECT pg_advisory_xact_lock(7)"))
        return {"locked": True}

    async def ask_all(app):
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            return await asyncio.gather(*(client.post("/lock") for _ in range(count)))

    answers = asyncio.run(ask_all(build().app))
    assert [answer.status_code for answer in answers] == [200] * count


def test_many_slow_uploads_do_not_use_up_the_connections(live_server, api_key):
    """More uploads than the pool has connections wait for their senders at the same time."""
    count = 25
    gate = threading.Barrier(count + 1, timeout=60)
    answers = []

    def body():
        yield b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        gate.wait()  # all have begun and none has ended
        gate.wait()
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\nx\r\n--b--\r\n'

    key = {"Authorization": f"Bearer {api_key}"}

    def send():
        headers = {"content-type": "multipart/form-data; boundary=b", **key}
        answers.append(httpx.post(f"{live_server}/v1/files", content=body(), headers=headers, timeout=60).status_code)

    threads = [threading.Thread(target=send) for _ in range(count)]
    for thread in threads:
        thread.start()
    gate.wait()
    assert httpx.get(f"{live_server}/v1/files", headers=key, timeout=60).status_code == 200
    gate.wait()
    for thread in threads:
        thread.join(60)
    assert answers == [200] * count


def test_who_may_not_ask_hears_that_before_what_is_wrong_with_the_request(client, services):
    with services() as s:
        team = s.identity.create_team("A", "a")
        _, viewer = s.identity.create_key(team.id, "k", Role.VIEWER)
    for key, status in (("sk-no", 401), (viewer, 403)):
        headers = {"authorization": f"Bearer {key}"}
        assert client.post("/v1/fine_tuning/jobs", json={"model": 1}, headers=headers).status_code == status
        assert client.post("/v1/fine_tuning/jobs", content=b"{}", headers=headers).status_code == status
    assert client.post("/v1/fine_tuning/jobs", json={"model": 1}).status_code == 400


def test_a_plain_handler_is_one_trip_to_another_thread(client, monkeypatch):
    trips = []
    run_sync = anyio.to_thread.run_sync

    async def counted(function, *arguments, **options):
        trips.append(function)
        return await run_sync(function, *arguments, **options)

    client.get("/v1/fine_tuning/jobs")
    monkeypatch.setattr(anyio.to_thread, "run_sync", counted)
    assert client.get("/v1/fine_tuning/jobs").status_code == 200
    assert len(trips) == 1


def test_an_answer_that_cannot_be_rendered_is_not_committed(own_client, context):
    router, build = own_client

    @router.post("/make")
    def make(services: ServicesDep) -> dict[str, int]:
        services.identity.create_team("A", "made")
        return {"made": "not a number"}

    with build() as client:
        assert client.post("/make").status_code == 500
    assert "made" not in teams(context)
