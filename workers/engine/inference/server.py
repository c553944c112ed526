"""The serving process: `python -m workers.engine.inference.server --host 127.0.0.1 --port P`.

`POST /generate` takes a `GenerateSpec` (app/contracts/specs.py) as JSON and answers with NDJSON, one line
(app/contracts/generation.py) per token step and choice:

    {"kind": "prompt", "text": …, "logprobs": […]}                          first, only with `echo`
    {"kind": "delta", "index": 0, "text": "Par", "token_ids": [4211], "logprobs": null, "finish_reason": null}
    {"kind": "delta", "index": 0, "text": "is", …, "finish_reason": "stop"}  once for every choice
    {"kind": "done", "usage": {"prompt_tokens": …, "completion_tokens": …}, "timing": {…}}

An error before the first line is a status (400, 401, 500, 503) with {"kind": "error", "error": {…}} as its
body; one after it is that object as the last line. A stream without `done` or `error` at its end was cut.
Closing the connection stops the work. Models are loaded when first asked for.

`POST /predict` takes a `PredictSpec` and answers with one `Predictions` (app/contracts/predictions.py); errors have
the same statuses and bodies.

`POST /preview` takes a `PreviewSpec` (app/contracts/previews.py) and answers with one `Preview` as JSON, or with
an error as above. It reads the base's tokenizer only and waits for no answer that is being generated.

`GET /health` answers {"status": "ok", "running": n, "waiting": n} without a token.
"""

import os

# Before any library reads them: no hub, no telemetry, no thread fights with the tokenizer.
os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1")
os.environ.update(TOKENIZERS_PARALLELISM="false", HF_HUB_DISABLE_PROGRESS_BARS="1")
# Threads that wait for work sleep instead of spinning: beside a training engine on the same cores,
# a step of a 135M base took 1170 ms with spinning threads and 163 ms without.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import argparse
import ctypes
import ipaddress
import json
import signal
import socket
import sys
from pathlib import Path
from types import FrameType

import uvicorn

from workers.engine.inference.http_app import build_app
from workers.engine.inference.models_cache import ModelsCache
from workers.engine.inference.scheduler import Scheduler
from workers.engine.machine import pick_device, set_up_torch

_PR_SET_PDEATHSIG = 1
_GRACE_SECONDS = 5


class ServingProcess(uvicorn.Server):
    """uvicorn that says when it serves, and ends open answers before it waits for them."""

    def __init__(self, scheduler: Scheduler, config: uvicorn.Config, ready_file: Path | None, base_url: str) -> None:
        super().__init__(config)
        self._scheduler = scheduler
        self._ready_file = ready_file
        self._base_url = base_url

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._ready_file is not None:
            temporary = self._ready_file.with_name(f".{self._ready_file.name}.{os.getpid()}")
            temporary.write_text(json.dumps({"base_url": self._base_url, "pid": os.getpid()}))
            temporary.replace(self._ready_file)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._scheduler.stop()
        super().handle_exit(sig, frame)


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT, or until the parent process dies. Wrong usage exits with 2."""
    parser = _parser()
    options = parser.parse_args(arguments)
    token = options.token_file.read_text().strip() if options.token_file else None
    if options.token_file and not token:
        parser.error(f"{options.token_file} is empty: write this server's token into it.")
    if token is None and not _is_loopback(options.host):
        parser.error("without --token-file only a loopback --host is served; give the API and this server a token.")
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    set_up_torch()
    listener = socket.create_server((options.host, options.port), backlog=256)
    scheduler = Scheduler(ModelsCache(pick_device(), max_bases=options.max_bases, max_adapters=options.max_adapters))
    config = uvicorn.Config(
        build_app(scheduler, token=token),
        log_level="warning",
        lifespan="off",
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    host, port = listener.getsockname()[:2]
    process = ServingProcess(scheduler, config, options.ready_file, f"http://{host}:{port}")
    # uvicorn raises the signal again after it has stopped: then it means nothing any more.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    scheduler.start()
    process.run(sockets=[listener])
    scheduler.stop()
    scheduler.join(_GRACE_SECONDS)
    if scheduler.is_alive:  # in the middle of loading a model: not to be waited for
        os._exit(0)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m workers.engine.inference.server",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True, help="0 lets the system choose; see --ready-file")
    parser.add_argument("--token-file", type=Path, help="file with the bearer token callers must send")
    parser.add_argument("--max-bases", type=int, default=2, help="base models kept in memory")
    parser.add_argument("--max-adapters", type=int, default=16, help="adapters kept in memory for each base")
    parser.add_argument("--ready-file", type=Path, help='gets {"base_url", "pid"} once requests are taken')
    return parser


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


if __name__ == "__main__":
    sys.exit(main())
