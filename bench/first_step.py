"""From a command to the first optimizer step on a warm base, and the memory of the run beside its estimate.

    python bench/first_step.py [--device cuda] [--shape llama-3-8b] [--batch-size 8] [--words 60]

The base has random weights of a published shape and a small tokenizer; rows are chats. The clock starts when the
engine has the command, with the base in memory, and stops at the report of the first step. The first run of a process
also pays what the libraries set up once.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

BENCH = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--shape", default="smollm2-135m")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--words", type=int, default=60, help="in a question and again in its answer")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    sys.path.insert(0, str(BENCH.parent))
    import torch  # `--help` answers without it

    from workers.engine.machine import set_up_torch

    set_up_torch()
    resident = _resident(options.shape, torch.device(options.device))
    with tempfile.TemporaryDirectory(prefix="bench-first-step-") as folder:
        for number in range(options.runs):
            _measure(resident, Path(folder) / str(number), options)


def _resident(shape: str, device: Any) -> Any:
    from rungs.models import load_model

    from app.contracts.specs import BaseRef
    from tests.support.tiny_models import build_tiny_tokenizer
    from workers.engine import base_model
    from workers.engine.machine import pick_dtype
    from workers.engine.training import attention

    attention.register()
    dtype = pick_dtype(device)
    network = load_model(shape, device=str(device), dtype=dtype, attention=attention.NAME).requires_grad_(False)
    ref = BaseRef(id=shape, path=shape, weights_sha256="0" * 64, context_length=8192)
    return base_model.make_resident(ref, "decoder", network, build_tiny_tokenizer(), dtype=dtype, quantization="none")


def _measure(resident: Any, folder: Path, options: argparse.Namespace) -> None:
    import torch
    from rungs.rows import WORDS

    from tests.workers.engine.conftest import chat_row, train_spec
    from workers.engine.engine import Engine, StopSignal
    from workers.engine.training import memory

    spec = train_spec(
        resident.ref,
        folder,
        batch_size=options.batch_size,
        lora={"rank": 16, "alpha": 32},
        n_epochs=1,
        max_length=8192,
        token_budget=None,
        resume_checkpoint_seconds=1e9,
    )
    text = " ".join(WORDS[i % len(WORDS)] for i in range(options.words))
    rows = [chat_row(line, text, text) for line in range(1, 4 * options.batch_size + 1)]
    spec = spec.model_copy(update={"train_rows_sha256": _write(Path(spec.train_rows), rows)})
    times: dict[str, float] = {}
    reports: dict[str, Any] = {}

    def note(report: Any) -> None:
        times.setdefault(report.kind, time.perf_counter() - started)
        reports.setdefault(report.kind, report)

    if resident.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    Engine(note, device=resident.device, resident=resident).run(spec, StopSignal())
    if "metric" not in reports:
        raise SystemExit(f"the run failed: {reports['failed'].error}")
    planned = memory.plan(resident, spec, lengths=[reports["encoded"].longest])
    line = (
        f"{options.shape} {resident.device}: encoded and tried after {times['encoded']:.2f} s, first step after "
        f"{times['metric']:.2f} s ({reports['metric'].tokens} tokens in {reports['metric'].step_seconds:.3f} s)"
    )
    if resident.device.type == "cuda":
        own = planned.total_bytes - memory.RUNTIME_BYTES["cuda"]  # the allocator does not see it
        peak = torch.cuda.max_memory_allocated()
        line += f"; estimate {own / 1e9:.2f} GB, peak {peak / 1e9:.2f} GB, ratio {own / peak:.2f}"
    print(line, flush=True)


def _write(path: Path, rows: Any) -> str:
    from tests.workers.engine.conftest import write_rows

    return write_rows(path, rows)


if __name__ == "__main__":
    main()
