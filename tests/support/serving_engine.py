"""The real serving engine as a child process, for tests over real HTTP."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "token-of-the-tests"
_READY_SECONDS = 120.0


@contextmanager
def serving_engine(folder: Path) -> Iterator[str]:
    """Its address; logs and token lie in `folder`."""
    token, ready, log = folder / "token", folder / "ready.json", folder / "engine.log"
    token.write_text(TOKEN)
    command = [sys.executable, "-m", "workers.engine.inference.server", "--port", "0", "--max-bases", "8"]
    command += ["--token-file", str(token), "--ready-file", str(ready)]
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=output, stderr=output
        )
    try:
        deadline = time.monotonic() + _READY_SECONDS
        while not ready.exists():
            assert time.monotonic() < deadline, "the serving engine did not start"
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.02)
                raise AssertionError(log.read_text())
        yield json.loads(ready.read_text())["base_url"]
    finally:
        process.terminate()
        process.wait(20)
