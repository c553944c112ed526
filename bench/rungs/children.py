"""The parent's side: one process a rung, alive between its turns on the CPU, fresh for each on a GPU."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BENCH = Path(__file__).parents[1]


@dataclass
class Rung:
    """One way to train, and every step it was seen to make."""

    name: str
    module: str
    settings: dict[str, Any] = field(default_factory=dict)
    python: str = sys.executable
    steps: list[dict[str, Any]] = field(default_factory=list)
    left_out: str | None = None


class Child:
    """A running rung. Reports that come before `waiting` belong to the turn that has ended."""

    def __init__(self, rung: Rung, common: dict[str, Any], folder: Path) -> None:
        self.rung = rung
        config = folder / f"{rung.name}.json"
        config.write_text(json.dumps(common | rung.settings))
        self.log = folder / f"{rung.name}.log"
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(filter(None, (str(BENCH), str(BENCH.parent), os.environ.get("PYTHONPATH")))),
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [rung.python, "-m", f"rungs.{rung.module}", str(config)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment,
            )
        self.is_over = not self._read()

    def turn(self, *, warm_up: int) -> None:
        """Let the rung make one turn's steps; the first `warm_up` of them are not counted."""
        if self.is_over:
            return
        before = len(self.rung.steps)
        self._write("go\n")
        self.is_over = not self._read()
        del self.rung.steps[before : before + warm_up]

    def close(self) -> None:
        if not self.is_over:
            self._write("end\n")
            self._read()
        self.process.wait()

    def _write(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line)
        self.process.stdin.flush()

    def _read(self) -> bool:
        """Take reports until the child waits (True) or is gone (False)."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            report = json.loads(line)
            if "left_out" in report:
                self.rung.left_out = report["left_out"]
            elif "waiting" in report:
                return True
            else:
                self.rung.steps.append(report)
        if self.process.wait() != 0 and self.rung.left_out is None:
            code = self.process.returncode
            tail = self.log.read_text(errors="replace").strip().splitlines()[-1:]
            self.rung.left_out = "killed: out of memory" if code == -9 else f"failed ({code}): " + " | ".join(tail)
        return False
