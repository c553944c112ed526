"""Training speed: ours beside plain Trainer + peft and TRL with packing, in one run, A B A B.

    python bench/train.py --against hf [--base FOLDER] [--set R|U] [--rows FILE] [--python INTERPRETER_WITH_TRL]
    python bench/train.py --device cuda --shape llama-3-8b --set U

Every rung is its own process. Counted are real tokens: no padding, warm-up steps left out. On the CPU all processes
live side by side and take turns of one step; on a GPU a turn is a process of its own. The limit is what the machine
multiplies at the model's shapes, measured in the same turns, over the operations a token needs (`rungs/work.py`).
A rung whose libraries are missing is named and left out. Needs torch and transformers; the rivals also accelerate
and peft (and trl, datasets), ours pydantic.
"""

import argparse
import os
import platform
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rungs import rows as row_sets
from rungs.children import BENCH, Child, Rung
from rungs.work import Work, needed

DEFAULT_BASE = BENCH.parent / ".venv/test-bases/smollm2-135m-instruct"
RANK, BATCH_SIZE = 16, 8


def rungs(options: argparse.Namespace) -> list[Rung]:
    ours = Rung("ours", "ours", {"token_budget": options.token_budget})
    if options.against == "nothing":
        return [ours]
    rivals = [
        Rung("Trainer + peft, fp32", "trainer", {"style": "default"}),
        Rung("Trainer + peft, bf16, by length", "trainer", {"style": "tuned"}),
        Rung("TRL packing 1024", "trl_packing", {"style": "default"}, python=options.python),
        Rung("TRL packing 1024, no checkpointing", "trl_packing", {"style": "tuned"}, python=options.python),
    ]
    return [ours, *(rung for rung in rivals if options.only in rung.name)]


def make_rows(options: argparse.Namespace, model: str, vocabulary: int) -> list[row_sets.TokenRow]:
    if options.rows is not None:
        return row_sets.chat_rows(options.rows, Path(model), 2048)
    next_ids = row_sets.random_ids(vocabulary) if options.shape else row_sets.word_ids(Path(model))
    return row_sets.made_rows(options.set, 400 if options.set == "R" else 64, next_ids)


def alternate(measured: list[Rung], common: dict[str, Any], options: argparse.Namespace, folder: Path) -> None:
    """All rungs in turn, `rounds` times."""
    keeps = options.device == "cpu"
    children: dict[str, Child] = {}
    for number in range(options.rounds + (1 if keeps else 0)):
        for rung in measured:
            if rung.left_out:
                continue
            started = time.monotonic()
            child = children.get(rung.name) or Child(rung, common, folder)
            # On the CPU the whole first round warms up; a fresh GPU process warms up in each turn.
            child.turn(warm_up=common["steps_per_turn"] if keeps and number == 0 else 0 if keeps else options.warm_up)
            if keeps:
                children[rung.name] = child
            else:
                child.close()
            print(f"  round {number}: {rung.name}: {time.monotonic() - started:.1f} s", file=sys.stderr, flush=True)
    for child in children.values():
        child.close()


def total(rung: Rung, key: str) -> float:
    return float(sum(step["step"][key] for step in rung.steps))


def seconds(rung: Rung, key: str = "seconds") -> float:
    return float(sum(step[key] for step in rung.steps))


def print_table(measured: list[Rung], yardstick: Rung, work: Work) -> None:
    rate = max((step["step"]["rate"] for step in yardstick.steps), default=0.0)
    limit = rate / work.flops_per_token
    print(f"\n{'':36}{'tok/s':>8}{'ours/it':>9}{'ms/step':>9}{'tok/CPU-s':>11}{'real':>7}{'GiB':>7}{'of limit':>10}")
    ours = next(rung for rung in measured if rung.name == "ours")
    for rung in measured:
        if rung.left_out or not rung.steps:
            print(f"{rung.name:36}  left out: {rung.left_out or 'no step in time'}")
            continue
        pace = total(rung, "tokens") / seconds(rung)
        ratio = total(ours, "tokens") / seconds(ours) / pace if ours.steps else float("nan")
        peak = max(step["peak_bytes"] for step in rung.steps) / 2**30
        print(
            f"{rung.name:36}{pace:8.0f}{ratio:8.2f}x{1000 * seconds(rung) / len(rung.steps):9.0f}"
            f"{total(rung, 'tokens') / seconds(rung, 'cpu_seconds'):11.0f}"
            f"{total(rung, 'tokens') / total(rung, 'processed'):7.0%}{peak:7.2f}{pace / limit if limit else 0:10.0%}"
        )
        if limit and pace > limit:
            print(f"  WARNING: {rung.name} is above the physical limit: the count or the clock is wrong.")
    print(
        f"\nlimit {limit:.0f} tokens/s = {rate / 1e9:.0f} GFLOP/s measured / {work.flops_per_token / 1e9:.3f} GFLOP a "
        f"token (4N {(work.body + work.head) / 1e9:.3f}, attention {work.attention / 1e9:.3f}, LoRA "
        f"{work.lora / 1e9:.3f}); fp32 {max((s['step']['fp32_rate'] for s in yardstick.steps), default=0) / 1e9:.0f} "
        "GFLOP/s"
    )


def describe(options: argparse.Namespace, rows: list[row_sets.TokenRow]) -> None:
    tokens = sum(len(row.input_ids) for row in rows)
    learned = sum(len(row.input_ids) - row.first_supervised for row in rows)
    machine = platform.processor() or platform.machine()
    if options.device == "cuda":
        import torch  # as in `main`

        machine = torch.cuda.get_device_name()
    print(
        f"{datetime.now(UTC):%Y-%m-%d} · {machine} · {len(os.sched_getaffinity(0))} "
        f"cores · load {os.getloadavg()[0]:.1f} at the start"
    )
    print(
        f"{options.shape or Path(options.base).name} · Trainer: {options.micro_batch} rows at a time · "
        f"LoRA r {RANK} on all linears · {BATCH_SIZE} rows a step · set "
        f"{options.rows or options.set}: {len(rows)} rows, mean {tokens / len(rows):.0f} tokens, longest "
        f"{max(len(row.input_ids) for row in rows)}, {learned / tokens:.0%} learned · {options.rounds} turns of "
        f"{options.steps} steps"
    )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", choices=("hf", "nothing"), default="hf")
    parser.add_argument("--only", default="", help="of the rivals those whose name has this in it")
    parser.add_argument("--base", type=Path, default=DEFAULT_BASE, help="folder of the base model")
    parser.add_argument(
        "--shape", choices=("llama-3-8b", "qwen2.5-7b", "smollm2-135m"), help="random weights instead of a base"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--set", choices=("R", "U"), default="R")
    parser.add_argument("--rows", type=Path, help="chat JSON lines instead of a made set")
    parser.add_argument("--rounds", type=int, default=6, help="turns of each rung")
    parser.add_argument("--steps", type=int, default=None, help="steps a turn (CPU 1, GPU 12)")
    parser.add_argument("--warm-up", type=int, default=5, help="uncounted steps of each GPU process")
    parser.add_argument(
        "--micro-batch",
        type=int,
        default=BATCH_SIZE,
        help=f"rows at a time of Trainer + peft; the {BATCH_SIZE} of a step need some 2 MB a token in fp32",
    )
    parser.add_argument("--token-budget", type=int, help="of ours; else its default")
    parser.add_argument("--python", default=sys.executable, help="interpreter that has trl")
    options = parser.parse_args()
    options.steps = options.steps or (1 if options.device == "cpu" else 12)
    return options


def main() -> None:
    options = parse()
    sys.path.insert(0, str(BENCH.parent))
    from rungs.models import read_config  # `--help` answers without transformers

    model = options.shape or str(options.base)
    config = read_config(model)
    rows = make_rows(options, model, config.vocab_size)
    describe(options, rows)
    yardstick = Rung("gemm", "gemm", {} if options.device == "cpu" else {"steps_per_turn": options.warm_up + 1})
    check = Rung("gradients", "gradients")
    measured = rungs(options)
    with tempfile.TemporaryDirectory(prefix="bench-train-") as name:
        folder = Path(name)
        row_sets.write_rows(folder / "rows.jsonl", rows)
        common = {
            "model": model,
            "device": options.device,
            "rows": str(folder / "rows.jsonl"),
            "rank": RANK,
            "batch_size": BATCH_SIZE,
            "micro_batch": options.micro_batch,
            "steps_per_turn": options.steps,
        }
        alternate([*measured, yardstick], common, options, folder)
        if options.against == "hf" and options.device == "cpu":
            child = Child(check, common | {"steps_per_turn": 1}, folder)
            child.turn(warm_up=0)
            child.close()
    print_table(measured, yardstick, needed(config, rows, RANK))
    print_gradients(check)
    print(f"load {os.getloadavg()[0]:.1f} at the end")


def print_gradients(check: Rung) -> None:
    if check.left_out:
        print(f"gradients: left out: {check.left_out}")
    for step in check.steps:
        figures = step["step"]
        beside = f"; peft on a bf16 base {figures['peft_bf16']:.2e}" if "peft_bf16" in figures else ""
        print(f"gradient against fp32 transformers + peft, relative difference: ours {figures['ours']:.2e}{beside}")


if __name__ == "__main__":
    main()
