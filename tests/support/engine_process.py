"""The engine as a process of its own, with a pipe on each side."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Self

import pytest

from app.contracts.reports import Report, report_adapter
from app.contracts.specs import Command

ROOT = Path(__file__).parents[2]
TIMEOUT_SECONDS = 60
# The same on every machine, also on one with a GPU.
CPU_FP32 = {"CUDA_VISIBLE_DEVICES": "", "TUNESMITH_ENGINE_DTYPE": "float32"}


class EngineProcess:
    """A running `python -m workers.engine`; killed when its `with` block ends."""

    def __init__(self, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "workers.engine"],
            cwd=ROOT,
            env=os.environ | {"TUNESMITH_ENGINE_THREADS": "1"} | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(TIMEOUT_SECONDS)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()

    def send(self, command: Command) -> None:
        self.send_line(command.model_dump_json())

    def send_line(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def read_until(self, *kinds: str) -> list[Report]:
        """Reports up to and with the first of these kinds; fails when the pipe ends before."""
        assert self.process.stdout is not None
        reports: list[Report] = []
        for line in self.process.stdout:
            reports.append(report_adapter.validate_json(line))
            if reports[-1].kind in kinds:
                return reports
        pytest.fail(f"the engine ended before {kinds}: {[r.kind for r in reports]}")
