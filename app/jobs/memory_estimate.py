"""What a run will about hold in memory, from the count of the base's parameters alone. Pure and rough.

The engine works it out from the base's real shapes before the run starts, says so in the job's events, and shrinks the
micro-batch to what fits. Activations: 34 bytes a token, hidden unit and layer at 16 bits (Korthikanti et al. 2022,
arXiv 2205.05198, without attention scores, which our attention does not keep).
"""

import math
from dataclasses import dataclass

BASIS = "from the base's parameter count, rough; the engine works it out from its shapes before the run starts"
_RUNTIME_BYTES = {"cpu": 450 * 2**20}
_RUNTIME_BYTES_OF_GPU = 1200 * 2**20
_MICRO_BATCH_TOKENS = {"cpu": 2048}
_MICRO_BATCH_TOKENS_OF_GPU = 8192
_MASTER_BYTES = 16  # fp32 weight, gradient and two moments
_LINEAR_LAYERS = 7  # of a block: four of attention, three of the gated product
_MEAN_WIDTHS = 5.3  # in + out of these layers on average, in hidden units


@dataclass(frozen=True)
class MemoryParts:
    """Bytes of a run, by who else could use them."""

    base: int
    """With the libraries around it: once for all runs of a process."""
    trained: int
    activations: int
    """Of one micro-batch, free between two steps."""


def memory_bytes(*, parameters: int, rank: int | None, is_4_bit: bool, device_kind: str | None) -> int:
    """`rank` None: every weight is trained. `device_kind` None: that of a GPU."""
    parts = memory_parts(parameters=parameters, rank=rank, is_4_bit=is_4_bit, device_kind=device_kind)
    return parts.base + parts.trained + parts.activations


def memory_parts(*, parameters: int, rank: int | None, is_4_bit: bool, device_kind: str | None) -> MemoryParts:
    """As `memory_bytes`."""
    is_cpu = device_kind == "cpu"
    layers, hidden = _shape(parameters)
    bytes_each = 4.0 if is_cpu else 2.0
    base = parameters * (0.55 if is_4_bit else bytes_each)
    trained = parameters if rank is None else rank * hidden * _MEAN_WIDTHS * _LINEAR_LAYERS * layers
    tokens = _MICRO_BATCH_TOKENS["cpu"] if is_cpu else _MICRO_BATCH_TOKENS_OF_GPU
    activations = 34 * (bytes_each / 2) * tokens * hidden * layers
    runtime = _RUNTIME_BYTES["cpu"] if is_cpu else _RUNTIME_BYTES_OF_GPU
    return MemoryParts(round(runtime + base), round(trained * _MASTER_BYTES), round(activations))


def _shape(parameters: int) -> tuple[int, float]:
    """(layers, hidden units) of a usual transformer: 12 weights a layer and squared hidden unit (arXiv 2001.08361)."""
    layers = min(80, max(2, round(4 * math.log10(max(parameters, 10)) ** 2 / 9)))
    return layers, math.sqrt(parameters / (12 * layers))
