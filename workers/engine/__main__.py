"""`python -m workers.engine`: serve a supervisor, run one spec by hand, or convert a GGUF file."""

import os

# Before any library reads them: no hub, no telemetry, no thread fights with the tokenizer.
os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1")
os.environ.update(TOKENIZERS_PARALLELISM="false", HF_HUB_DISABLE_PROGRESS_BARS="1")
# Threads that wait by spinning for long make a step 10 times slower as soon as another process wants a core;
# threads that sleep at once halve the speed of an idle machine. This is some tens of microseconds.
os.environ.setdefault("GOMP_SPINCOUNT", "20000")

import argparse
import ctypes
import signal
import sys
from pathlib import Path
from typing import NoReturn

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status: 0 done, 1 the run failed, 2 wrong usage."""
    parser = argparse.ArgumentParser(prog="python -m workers.engine", description=__doc__)
    actions = parser.add_subparsers(dest="action")
    run = actions.add_parser("run", help="run one TrainSpec or EvalSpec from a JSON file, printing progress")
    run.add_argument("spec", type=Path)
    convert = actions.add_parser("convert-gguf", help="turn a GGUF file into a base folder of safetensors")
    convert.add_argument("source", type=Path)
    convert.add_argument("destination", type=Path)
    options = parser.parse_args(arguments)
    if options.action is None:
        _serve()
    if options.action == "run":
        from workers.engine.by_hand import run_spec  # noqa: PLC0415 wrong usage answers without torch

        return run_spec(options.spec)
    from workers.engine.by_hand import convert_file  # noqa: PLC0415 as above

    return convert_file(options.source, options.destination)


def _serve() -> NoReturn:
    """The engine of a supervisor: dies with it, whatever happens."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    from workers.engine.protocol import ReportWriter, claim_stdout  # noqa: PLC0415 before torch can print

    pipe = claim_stdout()
    from workers.engine.engine import CommandLoop, Engine  # noqa: PLC0415 as above
    from workers.engine.machine import set_up_torch  # noqa: PLC0415 after stdout is ours

    set_up_torch()
    CommandLoop(Engine(ReportWriter(pipe)), sys.stdin.buffer).serve()
    # Not a plain return: the reader thread waits inside stdin's lock, and Python's shutdown aborts on that.
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
