"""QLoRA: the base's linear layers in 4 bits (Dettmers et al. 2023, arXiv 2305.14314), made dense where they are used.

Needs a GPU, and bitsandbytes and accelerate, which are installed only where this is wanted.
"""

from importlib.util import find_spec
from typing import Any, Literal, cast

import torch
from torch import Tensor
from transformers import BitsAndBytesConfig

from app.contracts.errors import usage

Quantization = Literal["none", "nf4"]
_LIBRARIES = ("bitsandbytes", "accelerate")


def require_available(quantization: Quantization, device: torch.device) -> None:
    """Usage failure `quantization_unavailable` where this machine cannot do it."""
    if quantization == "none":
        return
    missing = [name for name in _LIBRARIES if find_spec(name) is None]
    if device.type != "cuda":
        missing.insert(0, "a CUDA device")
    if missing:
        raise usage(
            "quantization_unavailable",
            f"Quantization '{quantization}' needs {' and '.join(missing)}, which this engine lacks. "
            "Train without quantization, or install the extra 'qlora' on a worker with a GPU.",
            param="quantization",
        )


def loading_options(quantization: Quantization, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """What `from_pretrained` is told, so that weights are quantised as they are read."""
    if quantization == "none":
        return {}
    config = BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True,
        bnb_4bit_quant_type=quantization,
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
    return {"quantization_config": config, "device_map": {"": device}}


def dense_weight(weight: Tensor) -> Tensor:
    """The matrix [out, in] that a layer's weight stands for: itself, or made of its 4 bits now and kept by nobody."""
    state = getattr(weight, "quant_state", None)
    if state is None:
        return weight
    from bitsandbytes.functional import dequantize_4bit  # noqa: PLC0415 an optional dependency

    return cast("Tensor", dequantize_4bit(weight.data, state))


def dense_dtype(weight: Tensor) -> torch.dtype:
    """Number format of `dense_weight(weight)`."""
    state = getattr(weight, "quant_state", None)
    return cast("torch.dtype", weight.dtype if state is None else state.dtype)
