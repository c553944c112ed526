"""Saves an answer's bytes to a file: whole or not at all, hashed on the way."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from app.cli.client import Client
from app.cli.errors import CommandError


@dataclass(frozen=True)
class Saved:
    """A finished download."""

    path: Path
    bytes: int
    sha256: str


def download(client: Client, path: str, target: Path) -> Saved:
    """GET `path` into `target`, which is replaced if it exists. A hash that the service names is checked."""
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    digest, size = hashlib.sha256(), 0
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with client.stream("GET", path, timeout=600) as response, part.open("wb") as file:
            for chunk in response.iter_bytes():
                file.write(chunk)
                digest.update(chunk)
                size += len(chunk)
            promised = response.headers.get("x-archive-sha256")
        if promised is not None and promised != digest.hexdigest():
            raise CommandError(f"{target.name} arrived damaged: its SHA-256 is not the one the service names. Repeat.")
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return Saved(target, size, digest.hexdigest())
