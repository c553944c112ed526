"""What the machine multiplies at the model's own shapes: the yardstick. `python -m rungs.gemm CONFIG`."""

import sys
import time

import torch

from rungs.models import best_dtype, read_config
from rungs.turns import EndOfTurnsError, Turns
from rungs.work import linear_shapes

_SECONDS = {"cpu": 1.0, "cuda": 0.1}  # of a GPU only the process's later steps count
# Passes between two looks at the clock: a GPU is asked for the next while it multiplies.
_PASSES = {"cpu": 1, "cuda": 10}


def main() -> None:
    turns = Turns(sys.argv[1])
    device = turns.config["device"]
    rows = 2048 if device == "cpu" else 8192
    config = read_config(turns.config["model"])
    operands = []
    for width, out in (*linear_shapes(config), (config.hidden_size, config.vocab_size)):
        x = torch.randn(rows if out < config.vocab_size else rows // 8, width, device=device)
        operands.append((x, torch.randn(out, width, device=device)))
    try:
        while True:
            turns.before_step()
            turns.after_step(
                rate=_rate(operands, best_dtype(device), device), fp32_rate=_rate(operands, torch.float32, device)
            )
    except EndOfTurnsError:
        pass


def _rate(operands: list[tuple[torch.Tensor, torch.Tensor]], dtype: torch.dtype, device: str) -> float:
    """Operations a second over forward and input-gradient products of all shapes; the best pass counts."""
    pairs = [(x.to(dtype), w.to(dtype)) for x, w in operands]
    outputs = [torch.nn.functional.linear(x, w) for x, w in pairs]
    flops = _PASSES[device] * sum(4.0 * x.shape[0] * w.numel() for x, w in pairs)
    best, until = 0.0, time.perf_counter() + _SECONDS[device]
    while time.perf_counter() < until:
        started = time.perf_counter()
        for _ in range(_PASSES[device]):
            for (x, w), y in zip(pairs, outputs, strict=True):
                torch.nn.functional.linear(x, w)
                torch.mm(y, w)
        if device == "cuda":
            torch.cuda.synchronize()
        best = max(best, flops / (time.perf_counter() - started))
    return best


if __name__ == "__main__":
    main()
