"""What a job cannot do without, known once its files are: the least memory on any device, and the least GPU.

A lower bound, so that no worker is passed over that could do it: weights in the smallest form in which they are held,
what full fine-tuning keeps beside each of them, and a process with torch in it. What a run takes in fact is worked out
by the engine, which refuses one that does not fit (`does_not_fit`).
"""

from collections.abc import Mapping
from typing import Any

_RUNTIME_BYTES = 450 * 2**20  # a process with torch and transformers in it
_BYTES_OF_A_WEIGHT = {"none": 2.0, "nf4": 0.5}  # bfloat16; 4 bits (norms and embeddings take more)
_FULL_BYTES = 16  # master, gradient and the two moments of AdamW in fp32, for each weight
_NF4_CAPABILITY = 60  # of the kernels of bitsandbytes


def least_memory_bytes(parameters: int, spec: Mapping[str, Any], *, trains: bool) -> int:
    """Of a training (or an evaluation) with a base of so many parameters; `spec` as `training_spec` makes it."""
    weight = _BYTES_OF_A_WEIGHT[spec.get("quantization") or "none"]
    if trains and spec.get("tuning") == "full":
        weight += _FULL_BYTES
    return _RUNTIME_BYTES + int(weight * parameters)


def least_compute_capability(spec: Mapping[str, Any]) -> int | None:
    """60 for 6.0; None: any device, a CPU too."""
    return _NF4_CAPABILITY if spec.get("quantization") == "nf4" else None
