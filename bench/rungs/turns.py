"""A measured process's side of the protocol: one JSON line a report, steps only in its turns.

Its parent writes a line for each turn; the process then makes `steps_per_turn` steps and says so.
"""

import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any, NoReturn


class EndOfTurnsError(Exception):
    """The parent wants no more steps."""


def resident_peak_bytes() -> int:
    """Largest resident set of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class Turns:
    """Times every step between `before_step` and `after_step`."""

    def __init__(self, config_path: str) -> None:
        self.config: dict[str, Any] = json.loads(Path(config_path).read_text())
        self._left = 0
        # Where memory ends, this process must go, and nobody else's.
        Path("/proc/self/oom_score_adj").write_text("1000")
        # Libraries print to stdout: the pipe to the parent becomes ours alone.
        self._pipe = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)

    def say(self, **report: Any) -> None:
        self._pipe.write(json.dumps(report) + "\n")
        self._pipe.flush()

    def leave_out(self, reason: str) -> NoReturn:
        self.say(left_out=reason)
        raise SystemExit(0)

    def before_step(self) -> None:
        if self._left == 0:
            self.say(waiting=True)
            if sys.stdin.readline().strip() != "go":
                raise EndOfTurnsError
            self._left = int(self.config["steps_per_turn"])
        self._started = time.perf_counter()
        self._cpu_started = time.process_time()

    def after_step(self, **figures: float) -> None:
        """`figures`: real `tokens` of the step, `processed` tokens with padding, or `flops` by name."""
        peak = resident_peak_bytes()
        if self.config["device"] == "cuda":
            import torch  # only a child that has a GPU pays for it

            torch.cuda.synchronize()
            peak = torch.cuda.max_memory_allocated()
        seconds = time.perf_counter() - self._started
        cpu_seconds = time.process_time() - self._cpu_started
        self.say(step=figures, seconds=seconds, cpu_seconds=cpu_seconds, peak_bytes=peak)
        self._left -= 1
