"""The memory estimate beside what a run took: the largest resident set of a process of its own, CPU.

    python bench/memory.py [--base FOLDER]

Each setting trains two steps through the engine's own path. The estimate is the one the job's first events tell.
"""

import argparse
import hashlib
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rungs.rows import WORDS

BENCH = Path(__file__).parent
DEFAULT_BASE = BENCH.parent / ".venv/test-bases/smollm2-135m-instruct"
# name → fields of TrainSpec beside those all have, and words in a row (about as many tokens)
SETTINGS: dict[str, tuple[dict[str, Any], int]] = {
    "r 16, rows of 200": ({}, 200),
    "r 16, rows of 1000": ({}, 1000),
    "r 16, rows of 1900": ({}, 1900),
    "r 16, budget 512": ({"token_budget": 512}, 200),
    "r 128": ({"lora": {"rank": 128, "alpha": 256}}, 200),
    "r 16, dropout": ({"lora": {"rank": 16, "alpha": 32, "dropout": 0.1}}, 200),
    "DoRA r 16": ({"lora": {"rank": 16, "alpha": 32, "variant": "dora"}}, 200),
    "all weights": ({"tuning": "full"}, 200),
    "all weights, budget 512": ({"tuning": "full", "token_budget": 512}, 200),
}


def measure(name: str, base: Path) -> dict[str, int]:
    """Estimate and peak of one setting, in bytes. To be called in a process that did nothing else."""
    sys.path.insert(0, str(BENCH.parent))
    import torch  # the parent needs none of it

    from app.contracts.specs import BaseRef, TrainSpec
    from workers.engine.base_model import load_base
    from workers.engine.machine import set_up_torch
    from workers.engine.training import memory
    from workers.engine.training.loop import train

    set_up_torch()
    changes, words = SETTINGS[name]
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.jsonl"
        text = " ".join(WORDS[i % len(WORDS)] for i in range(words // 2))
        messages = [{"role": "user", "content": text}, {"role": "assistant", "content": text}]
        rows.write_text(
            "".join(json.dumps({"kind": "chat", "line": n + 1, "messages": messages}) + "\n" for n in range(16))
        )
        ref = BaseRef(id="bench", path=str(base), weights_sha256="0" * 64, context_length=8192)
        fields = {
            "run_id": "bench",
            "base": ref,
            "train_rows": str(rows),
            "train_rows_sha256": hashlib.sha256(rows.read_bytes()).hexdigest(),
            "output_dir": folder,
            "lora": {"rank": 16, "alpha": 32},
            "optimizer": {"learning_rate": 1e-5},
            "batch_size": 8,
            "n_epochs": 1,
            "seed": 1,
            "max_length": 4096,
            "resume_checkpoint_seconds": 1e9,
        }
        spec = TrainSpec.model_validate(fields | changes)
        resident = load_base(ref, torch.device("cpu"))
        longest = 0

        def note(report: Any) -> None:
            nonlocal longest
            longest = max(longest, getattr(report, "longest", 0))

        train(resident, spec, note, lambda: None)
        estimate = memory.plan(resident, spec, lengths=[longest])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"estimate": estimate.total_bytes, "peak": peak, "activations": estimate.activation_bytes}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, default=DEFAULT_BASE)
    parser.add_argument("--only", choices=SETTINGS, help="one setting, in this process, as JSON")
    options = parser.parse_args()
    if options.only is not None:
        print(json.dumps(measure(options.only, options.base)))
        return
    print(f"{'':26}{'estimate GB':>13}{'peak GB':>9}{'estimate/peak':>15}")
    for name in SETTINGS:
        command = [sys.executable, __file__, "--base", str(options.base), "--only", name]
        found = json.loads(
            subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1]
        )
        print(
            f"{name:26}{found['estimate'] / 1e9:13.2f}{found['peak'] / 1e9:9.2f}"
            f"{found['estimate'] / found['peak']:15.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
