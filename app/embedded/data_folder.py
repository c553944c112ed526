"""The folder that holds everything of a one-machine service, and the lock that makes it one service's own."""

import fcntl
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.embedded.errors import EmbeddedError

_LARGEST_LOG_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class DataFolder:
    """Where things lie below `root`. Open to the owner only."""

    root: Path

    @property
    def postgres(self) -> Path:
        return self.root / "postgres"

    @property
    def artifacts(self) -> Path:
        return self.root / "artifacts"

    @property
    def bases(self) -> Path:
        return self.root / "bases"

    @property
    def scratch(self) -> Path:
        return self.root / "scratch"

    @property
    def run(self) -> Path:
        """Sockets, tokens and process numbers of the running service."""
        return self.root / "run"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def ready_file(self) -> Path:
        """{"base_url", "api_key"} while the service runs; read by the command line."""
        return self.root / "ready.json"

    @property
    def key_file(self) -> Path:
        """The first key, kept for the next start."""
        return self.root / "first-key"

    def create(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        self.root.chmod(0o700)
        for folder in (self.artifacts, self.bases, self.scratch, self.run, self.logs):
            folder.mkdir(exist_ok=True, mode=0o700)

    def log_file(self, name: str) -> Path:
        """`logs/NAME.log`, set aside as `NAME.log.1` once it is large."""
        path = self.logs / f"{name}.log"
        if path.exists() and path.stat().st_size > _LARGEST_LOG_BYTES:
            path.replace(path.with_suffix(".log.1"))
        return path

    def lock(self) -> int:
        """Take the folder for this process; `EmbeddedError` names the holder. Freed by the kernel at our end."""
        handle = os.open(self.root / "up.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(handle, 32).decode().strip() or "unknown"
            os.close(handle)
            raise EmbeddedError(
                f"A service is already running on {self.root} (process {holder}). "
                "Use it, stop that process, or choose another folder with --data-dir."
            ) from None
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        return handle


def write_private(path: Path, text: str) -> None:
    """Write `text` to `path` atomically, readable by the owner only."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{time.monotonic_ns()}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def write_private_json(path: Path, value: Any) -> None:
    write_private(path, json.dumps(value) + "\n")
