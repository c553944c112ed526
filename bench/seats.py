"""Small jobs on one worker, one after the other and beside each other: wall time and its ratio.

    python bench/seats.py [--jobs 8] [--rows 120] [--rounds 1] [--hidden 64] [--upload-seconds 0]

Postgres, Redis and the worker are real processes, and so is the engine, on a small random Llama. Every job trains,
validates, uploads its checkpoints, is evaluated and published. `--upload-seconds` makes the artifact store answer so
much later, as one over a network does.

On one device the arithmetic is the same either way, and so is each adapter (their hashes are compared). What is gained
are the waits: the last upload, the claim, the reading of files and the writing of results of one job, while another
trains.
"""

import argparse
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.faults.world import World
from tests.support.tiny_models import build_tiny_base

_WAIT_SECONDS = 1800.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=8)
    parser.add_argument("--rows", type=int, default=120)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--upload-seconds", type=float, default=0.0)
    options = parser.parse_args()
    ratios = []
    for _ in range(options.rounds):
        alone, one_by_one = measure(1, options)
        together, side_by_side = measure(4, options)
        if one_by_one != side_by_side:
            raise SystemExit("the adapters differ: sharing changed a result")
        ratios.append(alone / together)
        print(
            f"1 seat {alone:.1f} s, 4 seats {together:.1f} s, ratio {ratios[-1]:.2f}; {len(one_by_one)} equal adapters"
        )
    print(f"best ratio {max(ratios):.2f}, worst {min(ratios):.2f}; {os.cpu_count()} CPU cores")


def measure(seats: int, options: argparse.Namespace) -> tuple[float, list[str]]:
    """Seconds from the first claim to the end of the last job, and the adapters' hashes in order."""
    changed = {"seats_per_worker": seats, "engine_threads": 1, "engine_dtype": "float32", "lease_seconds": 30}
    with World(1, workers=0, changed=changed) as world:
        house = world.house
        base = build_tiny_base(house.context.settings.bases_dir / "bench", hidden_size=options.hidden, layers=4)
        house.register_base("bench", {"model.safetensors": base.weights_sha256}, context_length=512)
        jobs = [submit(world, options.rows, first=number * options.rows) for number in range(options.jobs)]
        slow = {"CHAOS_STORE_SECONDS": str(options.upload_seconds)}
        worker = house.start_worker(
            "gpu", "gpu0", changed, real_engine=True, look_seconds=0.3, variables=slow, output=world.log
        )
        try:
            finish(world, jobs)
        finally:
            worker.terminate()
            worker.wait(40)
        ((seconds,),) = world.sql("SELECT extract(epoch FROM max(finished_at) - min(claimed_at))::float8 FROM jobs")
        return float(str(seconds)), [house.adapter_sha256(job) for job in jobs]


def submit(world: World, rows: int, *, first: int) -> str:
    lines = [
        {
            "messages": [
                {"role": "user", "content": f"ticket {first + number}: my parcel is late, and I want an answer."},
                {"role": "assistant", "content": ("billing", "delivery", "repair")[number % 3]},
            ]
        }
        for number in range(rows)
    ]
    return world.house.submit(lines=lines, base="bench", epochs=2, batch_size=8)


def finish(world: World, jobs: list[str]) -> None:
    def are_over() -> bool:
        return all(world.house.job(job).status in {"succeeded", "failed"} for job in jobs)

    world.house.wait_until(are_over, "all jobs over", _WAIT_SECONDS)
    failed = [job for job in jobs if world.house.job(job).status == "failed"]
    if failed:
        raise SystemExit(f"{json.dumps(world.house.events(failed[0])[-2:])} {Path(world.folder)}")


if __name__ == "__main__":
    main()
