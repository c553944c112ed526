"""G24: the faults of `tests.faults.mutations`, put into a copy of the code one at a time.

`python -m tests.faults.mutants [WORD …]` runs them (all, or those whose description has one of the words) and names the
survivors.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from tests.faults.mutations import MUTANTS, Mutant
from tests.support.house import REPOSITORY

_COPIED = ("app", "workers", "migrations", "tests", "docs", "pyproject.toml", "Makefile", "README.md")
_SECONDS = 900
_AT_ONCE = os.cpu_count() or 1


def survivors(mutants: tuple[Mutant, ...] = MUTANTS) -> list[str]:
    """Descriptions of those that no test noticed; each line as it comes. Tests mostly wait: several run at once."""
    with tempfile.TemporaryDirectory(prefix="tsm-mutants-") as name, ThreadPoolExecutor(_AT_ONCE) as pool:
        copies: SimpleQueue[Path] = SimpleQueue()
        for number in range(_AT_ONCE):
            copies.put(_copied(Path(name) / str(number)))
        verdicts = pool.map(lambda mutant: _told(mutant, copies), mutants)
        return [
            f"{mutant.what} ({verdict})"
            for mutant, verdict in zip(mutants, verdicts, strict=True)
            if verdict != "killed"
        ]


def _told(mutant: Mutant, copies: "SimpleQueue[Path]") -> str:
    folder, started = copies.get(), time.monotonic()
    try:
        verdict = _verdict(mutant, folder)
    finally:
        copies.put(folder)
    sys.stderr.write(f"{verdict:<8} {time.monotonic() - started:4.0f} s  {mutant.what}\n")
    return verdict


def _copied(folder: Path) -> Path:
    folder.mkdir()
    for part in _COPIED:
        source = REPOSITORY / part
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / part)
    return folder


def _verdict(mutant: Mutant, folder: Path) -> str:
    """Of the tests that should notice; the copy is whole again afterwards."""
    path = folder / mutant.path
    whole = path.read_text()
    path.write_text(mutant.apply(whole))
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *mutant.killers.split(" ")]
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return f"no end within {_SECONDS} s"
    finally:
        path.write_text(whole)
    if done.returncode not in {0, 1}:
        return f"its tests did not run: {' '.join((done.stdout + done.stderr)[-600:].split())}"
    return "killed" if done.returncode == 1 else "SURVIVED"


def main() -> int:
    words = sys.argv[1:]
    return len(survivors(tuple(one for one in MUTANTS if not words or any(word in one.what for word in words))))


if __name__ == "__main__":
    sys.exit(main())
