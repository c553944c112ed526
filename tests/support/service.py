"""Fixtures over the service itself: settings, context, services, client, api_key, live_server, openai_client.

The service is imported inside the fixtures, so that a test of one part does not import all others.
"""
# ruff: noqa: PLC0415

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import openai
import pytest
import uvicorn
from fastapi.testclient import TestClient

from app.settings import Settings
from tests.support.servers import Servers

if TYPE_CHECKING:
    from app.context import Context
    from app.factory import Services

OpenServices = Callable[[], AbstractContextManager["Services"]]


@pytest.fixture
def settings(clean_servers: Servers, tmp_path: Path) -> Settings:
    """Real servers, folders below `tmp_path`."""
    for name in ("artifacts", "bases", "scratch"):
        (tmp_path / name).mkdir()
    return Settings.model_validate(
        {
            "database_url": clean_servers.database_url,
            "redis_url": clean_servers.redis_url,
            "artifacts_url": (tmp_path / "artifacts").as_uri(),
            "bases_dir": tmp_path / "bases",
            "scratch_dir": tmp_path / "scratch",
            "server_token": "token-of-the-tests",
            # Each test sees what it has just done.
            "shared_look_seconds": 0,
        }
    )


@pytest.fixture
def context(settings: Settings) -> "Iterator[Context]":
    """What a process holds; closed at the end."""
    from app.context import open_context

    context = open_context(settings)
    yield context
    context.close()


@pytest.fixture
def services(context: "Context") -> OpenServices:
    """`with services() as s:` gives the verbs in one unit of work, committed at the end of the block."""
    from app.factory import Services

    @contextmanager
    def open_services() -> "Iterator[Services]":
        with context.database.unit_of_work() as work:
            yield Services(context, work)

    return open_services


@pytest.fixture
def api_key(services: OpenServices) -> str:
    """The secret of the first key, an admin's."""
    with services() as opened:
        secret = opened.identity.first_key()
    assert secret is not None
    return secret


@pytest.fixture
def client(context: "Context", api_key: str) -> Iterator[TestClient]:
    """Calls the API in-process as the first admin; errors of ours come as answers, not as exceptions."""
    from app.main import create_app

    with TestClient(
        create_app(context), headers={"Authorization": f"Bearer {api_key}"}, raise_server_exceptions=False
    ) as client:
        yield client


@pytest.fixture
def live_server(context: "Context") -> Iterator[str]:
    """The API on a loopback port, in a thread; the base URL without /v1."""
    from app.main import create_app

    config = uvicorn.Config(create_app(context), host="127.0.0.1", port=0, log_config=None, ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, name="live-server", daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started:
        assert thread.is_alive(), "the API ended at start"
        assert time.monotonic() < deadline, "the API did not start within 30 s"
        thread.join(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(10)


@pytest.fixture
def openai_client(live_server: str, api_key: str) -> Iterator[openai.OpenAI]:
    """The official client in strict validation, without retries."""
    with openai.OpenAI(
        base_url=f"{live_server}/v1", api_key=api_key, max_retries=0, _strict_response_validation=True
    ) as client:
        yield client
