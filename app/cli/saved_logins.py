"""Log-ins that the command line keeps: one a service, in a file of the person's that nobody else can read."""

import json
import os
import time
from pathlib import Path
from typing import Any

from app.embedded.data_folder import write_private_json


def _path() -> Path:
    home = os.environ.get("XDG_CONFIG_HOME")
    return (Path(home) if home else Path.home() / ".config") / "tunesmith" / "logins.json"


def _read() -> dict[str, Any]:
    try:
        found = json.loads(_path().read_text())
    except (FileNotFoundError, ValueError):
        found = {}
    return found if isinstance(found, dict) else {}


def saved_service() -> str | None:
    """The service of the last log-in."""
    last = _read().get("last")
    return last if isinstance(last, str) else None


def saved_token(base_url: str) -> str | None:
    """The token of the log-in at this service, None once it is over."""
    found = _read().get("logins", {}).get(base_url, {})
    return found.get("token") if found.get("expires_at", 0) > time.time() else None


def save(base_url: str, token: str, expires_at: int) -> Path:
    """Keep a log-in, in place of an older one at the same service; where."""
    path, kept = _path(), _read()
    logins = {**kept.get("logins", {}), base_url: {"token": token, "expires_at": expires_at}}
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_private_json(path, {"last": base_url, "logins": logins})
    return path


def forget(base_url: str) -> None:
    kept = _read()
    logins = {url: found for url, found in kept.get("logins", {}).items() if url != base_url}
    last = kept.get("last") if kept.get("last") != base_url else None
    if kept:
        write_private_json(_path(), {"last": last, "logins": logins})
