"""The whole service on one machine: which processes it has, what they are told, when they start and stop."""

import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from app.context import open_context
from app.db.migrate import upgrade
from app.embedded.bound_process import start_bound
from app.embedded.data_folder import DataFolder, write_private, write_private_json
from app.embedded.errors import EmbeddedError
from app.embedded.postgres import EmbeddedPostgres
from app.embedded.process_tree import Member, ProcessTree
from app.embedded.redis import EmbeddedRedis
from app.embedded.sockets import private_socket_folder
from app.errors import Unauthorized
from app.factory import Services
from app.settings import PREFIX, Settings, load_settings, to_environment

_READY_SECONDS = 180.0
_PACKAGE_ROOT = Path(__file__).resolve().parents[2]
# What the serving engine may know of its surroundings; nothing of TUNESMITH_, no credentials.
_SERVER_INHERITS = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "CUDA_VISIBLE_DEVICES",
    "CUDA_DEVICE_ORDER",
    "NVIDIA_VISIBLE_DEVICES",
    "PYTORCH_CUDA_ALLOC_CONF",
)


@dataclass(frozen=True)
class Address:
    """Where the started service is and a key for it."""

    base_url: str
    api_key: str


class OneMachine:
    """A service on `folder`. Use from the main thread: `start`, then `check` a few times a second, then `stop`."""

    def __init__(self, folder: DataFolder, *, host: str, port: int) -> None:
        self._folder = folder
        self._host = host
        self._port = port or _free_port()
        self._tree = ProcessTree(folder.run / "processes.json")
        self._sockets = folder.run
        self._lock: int | None = None

    @property
    def base_url(self) -> str:
        host = "127.0.0.1" if self._host in {"0.0.0.0", "::"} else self._host  # noqa: S104 - compared, not bound
        return f"http://{f'[{host}]' if ':' in host else host}:{self._port}"

    def start(self, say: Callable[[str], None], *, is_stopping: Callable[[], bool]) -> Address | None:
        """Bring everything up; the address once it serves, None if `is_stopping` came first."""
        self._folder.create()
        self._lock = self._folder.lock()
        self._refuse_taken_port()
        self._tree.stop_leftovers()
        self._sockets = private_socket_folder(self._folder.run)
        given = {name: value for name, value in os.environ.items() if name.startswith(PREFIX)}
        redis_url = given.get("TUNESMITH_REDIS_URL") or self._start_redis()
        database_url = given.get("TUNESMITH_DATABASE_URL") or self._start_postgres()
        settings = self._settings(given, database_url, redis_url)
        say("Postgres and Redis are up")
        upgrade(database_url)
        address = Address(f"{self.base_url}/v1", self._first_key(settings))
        self._start_ours(settings)
        say("API, workers and serving engine are starting")
        if not self._wait_ready(is_stopping):
            return None
        write_private_json(self._folder.ready_file, {"base_url": address.base_url, "api_key": address.api_key})
        return address

    def check(self) -> None:
        """Restart what died."""
        self._tree.check()

    def stop(self, *, is_hurried: Callable[[], bool]) -> None:
        """Everything down: workers (they checkpoint), then Redis and Postgres. Nothing if the folder is not ours."""
        if self._lock is None:
            return
        self._folder.ready_file.unlink(missing_ok=True)
        self._tree.stop(is_hurried=is_hurried)
        if self._sockets != self._folder.run.resolve():
            shutil.rmtree(self._sockets, ignore_errors=True)
        os.close(self._lock)
        self._lock = None

    def _start_postgres(self) -> str:
        server = EmbeddedPostgres(self._folder.postgres, self._sockets, log_file=self._folder.log_file("postgres"))
        server.prepare()
        process = self._tree.start(Member("postgres", 0, server.spawn, server.stop_signal, 20.0))
        server.wait_ready(process)
        server.create_database()
        return server.url()

    def _start_redis(self) -> str:
        server = EmbeddedRedis(self._sockets, log_file=self._folder.log_file("redis"))
        process = self._tree.start(Member("redis", 0, server.spawn))
        server.wait_ready(process)
        return server.url

    def _settings(self, given: Mapping[str, str], database_url: str, redis_url: str) -> Settings:
        """What the user set, completed by what we started."""
        return load_settings(
            {
                "TUNESMITH_ARTIFACTS_URL": self._folder.artifacts.resolve().as_uri(),
                "TUNESMITH_BASES_DIR": str(self._folder.bases.resolve()),
                "TUNESMITH_SCRATCH_DIR": str(self._folder.scratch.resolve()),
                "TUNESMITH_SERVER_URL": f"http://127.0.0.1:{_free_port()}",
                "TUNESMITH_SERVER_TOKEN": secrets.token_urlsafe(32),
                **given,
                "TUNESMITH_DATABASE_URL": database_url,
                "TUNESMITH_REDIS_URL": redis_url,
            }
        )

    def _first_key(self, settings: Settings) -> str:
        """The key of an earlier start if it still opens the door, else a new one."""
        context = open_context(settings)
        try:
            with context.database.unit_of_work() as work:
                identity = Services(context, work).identity
                if self._folder.key_file.exists():
                    known = self._folder.key_file.read_text().strip()
                    try:
                        identity.authenticate(known)
                    except Unauthorized:
                        known = identity.first_key()
                else:
                    known = identity.first_key()
        finally:
            context.close()
        write_private(self._folder.key_file, f"{known}\n")
        return known

    def _start_ours(self, settings: Settings) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        environment |= to_environment(settings) | _python_path()
        python = [sys.executable, "-P", "-m"]
        api = [*python, "uvicorn", "--factory", "app.main:build", "--host", self._host, "--port", str(self._port)]
        self._add("api", 1, [*api, "--no-access-log", "--ws", "none"], environment)
        for role in ("control", "cpu"):
            self._add(role, 1, [*python, "workers.run", "--role", role, "--name", f"{role}0"], environment)
        gpus = _gpus()
        for number, gpu in enumerate(gpus):
            own = environment if gpu is None else {**environment, "CUDA_VISIBLE_DEVICES": gpu}
            member = "gpu" if len(gpus) == 1 else f"gpu{number}"
            self._add(member, 2, [*python, "workers.run", "--role", "gpu", "--name", f"gpu{number}"], own, 45.0)
        if "TUNESMITH_SERVER_URL" not in os.environ:
            self._add_server(settings)

    def _add_server(self, settings: Settings) -> None:
        """The serving engine gets its token by file and nothing else of ours."""
        token_file = self._folder.run / "server-token"
        if settings.server_token is None or settings.server_url is None:
            raise EmbeddedError("The serving engine needs TUNESMITH_SERVER_TOKEN together with its address.")
        write_private(token_file, settings.server_token.get_secret_value())
        environment = {name: os.environ[name] for name in _SERVER_INHERITS if name in os.environ} | _python_path()
        environment |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        command = [sys.executable, "-P", "-m", "workers.engine.inference.server", "--host", "127.0.0.1"]
        command += ["--port", settings.server_url.rpartition(":")[2], "--token-file", str(token_file)]
        command += ["--ready-file", str(self._folder.run / "server-ready.json")]
        self._add("server", 1, command, environment)

    def _add(self, name: str, layer: int, command: list[str], environment: dict[str, str], seconds: float = 10) -> None:
        log_file = self._folder.log_file(name)

        def spawn() -> subprocess.Popen[bytes]:
            with log_file.open("ab") as log:
                return start_bound(command, output=log, environment=environment)

        self._tree.start(Member(name, layer, spawn, stop_seconds=seconds))

    def _wait_ready(self, is_stopping: Callable[[], bool]) -> bool:
        deadline = time.monotonic() + _READY_SECONDS
        while not is_stopping():
            try:
                if httpx.get(f"{self.base_url}/health/ready", timeout=5, trust_env=False).status_code == 200:
                    return True
            except httpx.TransportError:
                if time.monotonic() > deadline:
                    raise EmbeddedError(
                        f"The API does not answer after {_READY_SECONDS:.0f} s. Its log: {self._folder.log_file('api')}"
                    ) from None
            self.check()
            time.sleep(0.1)
        return False

    def _refuse_taken_port(self) -> None:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((self._host, self._port))
            except OSError as error:
                raise EmbeddedError(
                    f"Cannot listen on {self._host} port {self._port}: {error.strerror}. "
                    "Choose another one with --port (0 takes any free port)."
                ) from error


def _python_path() -> dict[str, str]:
    """Lets the children import this very tree from any working folder."""
    return {"PYTHONPATH": os.pathsep.join(filter(None, (str(_PACKAGE_ROOT), os.environ.get("PYTHONPATH"))))}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _gpus() -> list[str | None]:
    """One entry for each GPU supervisor: the device's UUID, or None where the engine runs on the CPU."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [device for device in visible.split(",") if device and device != "-1"] or [None]
    program = shutil.which("nvidia-smi")
    if program is None:
        return [None]
    answer = subprocess.run(
        [program, "--query-gpu=uuid", "--format=csv,noheader"], capture_output=True, text=True, check=False, timeout=20
    )
    return [line.strip() for line in answer.stdout.splitlines() if line.strip()] or [None]
