"""G24: the faults of `tests.faults.mutations`, put into a copy of the code one at a time.

`python -m tests.faults.mutants [WORD …]` runs them (all, or those whose description has one of the words) and names the
survivors.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.faults.mutations import MUTANTS, Mutant
from tests.support.house import REPOSITORY

_COPIED = ("app", "workers", "migrations", "tests", "docs", "pyproject.toml", "Makefile", "README.md")
_SECONDS = 300


def survivors(mutants: tuple[Mutant, ...] = MUTANTS) -> list[str]:
    """Descriptions of those that no test noticed; each line as it comes."""
    found = []
    for mutant in mutants:
        is_killed = _is_killed(mutant)
        sys.stderr.write(f"{'killed  ' if is_killed else 'SURVIVED'} {mutant.what}\n")
        if not is_killed:
            found.append(mutant.what)
    return found


def _is_killed(mutant: Mutant) -> bool:
    with tempfile.TemporaryDirectory(prefix="tsm-mutant-") as name:
        folder = Path(name)
        for part in _COPIED:
            source = REPOSITORY / part
            if source.is_dir():
                shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, folder / part)
        path = folder / mutant.path
        path.write_text(mutant.apply(path.read_text()))
        environment = {**os.environ, "PYTHONPATH": str(folder)}
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *mutant.killers.split(" ")]
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
        if done.returncode not in {0, 1}:
            raise RuntimeError(f"the tests of '{mutant.what}' did not run:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done.returncode == 1


def main() -> int:
    words = sys.argv[1:]
    return len(survivors(tuple(one for one in MUTANTS if not words or any(word in one.what for word in words))))


if __name__ == "__main__":
    sys.exit(main())
