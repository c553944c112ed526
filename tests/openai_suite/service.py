"""A whole service for the suite: embedded Postgres and Redis, the API, the serving engine; no worker.

Without a worker seeded jobs keep their state, so every test finds what it was written for.
"""

import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from app.context import Context, open_context
from app.contracts.specs import BaseRef
from app.db.migrate import upgrade
from app.embedded.postgres import EmbeddedPostgres
from app.embedded.redis import EmbeddedRedis
from app.embedded.sockets import private_socket_folder
from app.settings import PREFIX, Settings, to_environment
from tests.openai_suite.source import SuiteError
from tests.support.tiny_models import build_tiny_base

_ROOT = Path(__file__).resolve().parents[2]
_READY_SECONDS = 120.0
_CONTEXT_TOKENS = 96


@dataclass(frozen=True)
class SuiteService:
    base_url: str
    context: Context
    base: BaseRef


@contextmanager
def running_service(folder: Path) -> Iterator[SuiteService]:
    """Everything up below `folder`; everything down at the end."""
    with ExitStack() as stack:
        for name in ("artifacts", "bases", "scratch"):
            (folder / name).mkdir()
        # A base that writes a BOS, so that the first token of an echoed prompt has a probability too: the client's
        # types know no null there.
        base = build_tiny_base(folder / "bases" / "tiny", context_length=_CONTEXT_TOKENS, writes_bos=True)
        settings = _settings(folder, *_start_servers(folder, stack))
        upgrade(settings.database_url.get_secret_value())
        context = stack.enter_context(_context(settings))
        _start_engine(folder, settings, stack)
        port = _free_port()
        command = ["-m", "uvicorn", "--factory", "app.main:build", "--host", "127.0.0.1", "--port", str(port)]
        api = _spawn([*command, "--no-access-log", "--ws", "none"], folder / "api.log", to_environment(settings), stack)
        _wait_until_healthy(f"http://127.0.0.1:{port}/health/live", api, folder / "api.log")
        yield SuiteService(f"http://127.0.0.1:{port}/v1", context, base)


def _start_servers(folder: Path, stack: ExitStack) -> tuple[str, str]:
    sockets = private_socket_folder(folder / "run")
    postgres = EmbeddedPostgres(folder / "postgres", sockets, log_file=folder / "postgres.log", durable=False)
    postgres.prepare()
    process = postgres.spawn()
    stack.callback(postgres.stop, process)
    postgres.wait_ready(process)
    postgres.create_database()
    redis = EmbeddedRedis(sockets, log_file=folder / "redis.log")
    broker = redis.spawn()
    stack.callback(redis.stop, broker)
    redis.wait_ready(broker)
    return postgres.url(), redis.url


def _settings(folder: Path, database_url: str, redis_url: str) -> Settings:
    return Settings.model_validate(
        {
            "database_url": database_url,
            "redis_url": redis_url,
            "artifacts_url": (folder / "artifacts").as_uri(),
            "bases_dir": folder / "bases",
            "scratch_dir": folder / "scratch",
            "server_url": f"http://127.0.0.1:{_free_port()}",
            "server_token": secrets.token_urlsafe(32),
        }
    )


@contextmanager
def _context(settings: Settings) -> Iterator[Context]:
    context = open_context(settings)
    try:
        yield context
    finally:
        context.close()


def _start_engine(folder: Path, settings: Settings, stack: ExitStack) -> None:
    assert settings.server_url is not None
    assert settings.server_token is not None
    token_file = folder / "token"
    token_file.write_text(settings.server_token.get_secret_value())
    command = ["-m", "workers.engine.inference.server", "--port", settings.server_url.rpartition(":")[2]]
    command += ["--token-file", str(token_file), "--max-bases", "8"]
    engine = _spawn(command, folder / "engine.log", {"OMP_NUM_THREADS": "1"}, stack)
    _wait_until_healthy(f"{settings.server_url}/health", engine, folder / "engine.log")


def _spawn(arguments: list[str], log: Path, extra: dict[str, str], stack: ExitStack) -> subprocess.Popen[bytes]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, *arguments], cwd=_ROOT, env=environment | extra, stdout=output, stderr=output
        )
    stack.callback(_stop, process)
    return process


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _wait_until_healthy(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while time.monotonic() < deadline:
        with suppress(httpx.TransportError):
            if httpx.get(url, timeout=5, trust_env=False).status_code == 200:
                return
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.05)
            break
    raise SuiteError(f"{url} does not answer:\n{log.read_text()[-2000:]}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
