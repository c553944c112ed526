"""Kills an engine with SIGKILL at random moments of a run and lets it go on: the result must be an unbroken run's.

    python bench/kill.py --base FOLDER --recipe chat --rows train.jsonl [--kills 5] [--seed 1]

`--rows` are canonical rows (see app/contracts/rows.py). Every process is `python -m workers.engine run SPEC.json`;
after a kill the next one goes on from whatever lies on the disk. Prints one line a kill and the hashes at the end.
"""

import argparse
import hashlib
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TextIO, cast

from app.contracts.rows import row_adapter
from app.contracts.specs import BaseRef, EarlyStopping, LoraSpec, OptimizerSpec, TrainSpec

ROOT = Path(__file__).parent.parent


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--recipe", required=True)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        whole, steps, seconds = run_whole(spec_for(options, work / "whole"), work / "whole.json")
        print(f"{options.recipe}: unbroken run {seconds:.1f} s, adapter {whole[:16]}…", flush=True)
        broken = run_broken(options, spec_for(options, work / "broken"), work / "broken.json", steps)
    is_equal = broken == whole
    print(
        f"{options.recipe}: killed {options.kills} times, adapter {broken[:16]}… {'EQUAL' if is_equal else 'DIFFERS'}"
    )
    return 0 if is_equal else 1


def spec_for(options: argparse.Namespace, output: Path) -> TrainSpec:
    """A run with everything that could lose its place: dropout, several micro-batches, validation, best checkpoint."""
    rows = [row_adapter.validate_json(line) for line in options.rows.read_bytes().splitlines() if line.strip()]
    labels = {label for row in rows for label in getattr(row, "labels", ())}
    labels |= {span.label for row in rows for span in getattr(row, "spans", ())}
    return TrainSpec(
        run_id="kill",
        base=BaseRef(
            id=options.base.name, path=str(options.base), weights_sha256="0" * 64, context_length=options.context
        ),
        recipe=options.recipe,
        labels=tuple(sorted(labels)) or None,
        train_rows=str(options.rows),
        train_rows_sha256=hashlib.sha256(options.rows.read_bytes()).hexdigest(),
        valid_rows=str(options.rows),
        output_dir=str(output),
        lora=LoraSpec(dropout=0.1),
        optimizer=OptimizerSpec(learning_rate=5e-4),
        early_stopping=EarlyStopping(patience=50),
        batch_size=options.batch_size,
        n_epochs=options.epochs,
        seed=options.seed,
        max_length=options.context,
        token_budget=512,
        valid_every_steps=3,
        valid_rows_per_check=4,
        resume_checkpoint_seconds=0.5,
    )


def run_whole(spec: TrainSpec, path: Path) -> tuple[str, int, float]:
    """The adapter's hash, the steps and the seconds of a run that nobody disturbs."""
    begun = time.monotonic()
    process = start(spec, path)
    output, _ = process.communicate()
    if process.returncode != 0:
        raise SystemExit(output)
    steps = max(step_of(line) for line in output.splitlines())
    return result_hash(output), steps, time.monotonic() - begun


def run_broken(options: argparse.Namespace, spec: TrainSpec, path: Path, steps: int) -> str:
    """Kill `kills` times, each a random moment after another random step, then let it finish."""
    chance = random.Random(options.seed)  # noqa: S311 no secret
    checkpoints = Path(spec.output_dir) / "checkpoints"
    for number, target in enumerate(sorted(chance.sample(range(1, steps), options.kills)), start=1):
        process = start(resumed(spec, checkpoints), path)
        reached = 0
        for line in cast("TextIO", process.stdout):
            reached = max(reached, step_of(line))
            if reached >= target:
                time.sleep(chance.uniform(0, 0.7))  # into the next step, a validation or a checkpoint
                break
        process.send_signal(signal.SIGKILL)
        process.wait()
        found = sorted(folder.name for folder in checkpoints.glob("step-*")) if checkpoints.is_dir() else []
        state = "killed" if process.returncode == -signal.SIGKILL else "ended before the kill"
        print(
            f"  {number}: {state} after step {reached} of {steps}; on disk: {', '.join(found) or 'nothing'}", flush=True
        )
    return run_whole(resumed(spec, checkpoints), path)[0]


def step_of(line: str) -> int:
    """The step a line of the run's output reports; 0 for other lines."""
    found = re.match(r"step (\d+)/", line)
    return int(found[1]) if found else 0


def resumed(spec: TrainSpec, checkpoints: Path) -> TrainSpec:
    has_any = checkpoints.is_dir() and any(checkpoints.glob("step-*"))
    return spec.model_copy(update={"resume_from": str(checkpoints) if has_any else None})


def start(spec: TrainSpec, path: Path) -> subprocess.Popen[str]:
    path.write_text(spec.model_dump_json())
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "workers.engine", "run", str(path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT)


def result_hash(output: str) -> str:
    """SHA-256 of the adapter that the last line of a finished run names."""
    (line,) = (line for line in output.splitlines() if line.startswith("finished"))
    weights = Path(line.rpartition("adapter: ")[2]) / "adapter_model.safetensors"
    return hashlib.sha256(weights.read_bytes()).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
