"""Attention over packed rows: each row is a segment, and attention never crosses one.

Registered in transformers as `tunesmith_packed`. Inside `packed(...)` no mask is built and the
segments decide; outside it behaves as transformers' own `sdpa`, caches and masks included.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.attention.varlen import varlen_attn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "tunesmith_packed"
# On the CPU torch's flash attention goes back through short bf16 rows at less than half the speed of fp32.
_FP32_LONGEST = 192


@dataclass(frozen=True)
class Packing:
    """Where the rows of a packed batch lie: lengths in tokens, their running sum, the longest."""

    lengths: tuple[int, ...]
    cumulative: Tensor  # [rows + 1] int32 on the batch's device
    longest: int


_packing: ContextVar[Packing | None] = ContextVar("packing", default=None)


@contextmanager
def packed(lengths: Sequence[int], device: torch.device) -> Iterator[None]:
    """Within: a forward pass of [1, sum(lengths)] tokens is `len(lengths)` rows that do not see each other."""
    cumulative = torch.zeros(len(lengths) + 1, dtype=torch.int32)
    cumulative[1:] = torch.tensor(lengths, dtype=torch.int32).cumsum(0)
    token = _packing.set(Packing(tuple(lengths), cumulative.to(device), max(lengths)))
    try:
        yield
    finally:
        _packing.reset(token)


def attention_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Packed or plain attention: query [1, heads, T, d], key and value [1, kv_heads, T, d] → [1, T, heads, d]."""
    packing = _packing.get()
    if packing is None:
        output, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
        return output, None
    scaling: float | None = kwargs.get("scaling")
    is_causal = bool(module.is_causal)
    attend = _varlen if query.is_cuda else _by_segment
    return attend(query, key, value, packing, scaling, is_causal=is_causal), None


def _varlen(
    query: Tensor, key: Tensor, value: Tensor, packing: Packing, scaling: float | None, *, is_causal: bool
) -> Tensor:
    q, k, v = (t.squeeze(0).transpose(0, 1) for t in (query, key, value))  # [T, heads, d]
    cumulative, longest = packing.cumulative, packing.longest
    output = varlen_attn(
        q,
        k,
        v,
        cumulative,
        cumulative,
        longest,
        longest,
        scale=scaling,
        window_size=(-1, 0 if is_causal else -1),
        enable_gqa=q.shape[1] != k.shape[1],
    )
    return cast("Tensor", output).unsqueeze(0)


def _by_segment(
    query: Tensor, key: Tensor, value: Tensor, packing: Packing, scaling: float | None, *, is_causal: bool
) -> Tensor:
    groups, dtype = query.shape[1] // key.shape[1], query.dtype
    if packing.longest <= _FP32_LONGEST:
        query, key, value = (t.float() for t in (query, key, value))
    if groups > 1:
        key, value = (t.repeat_interleave(groups, dim=1) for t in (key, value))
    parts = [
        scaled_dot_product_attention(q, k, v, is_causal=is_causal, scale=scaling)
        for q, k, v in zip(
            *(torch.split(t, list(packing.lengths), dim=2) for t in (query, key, value)),
            strict=True,
        )
    ]
    return torch.cat(parts, dim=2).transpose(1, 2).to(dtype)


def attention_mask(*args: Any, **kwargs: Any) -> Tensor | None:
    """No mask for packed rows; transformers' own one otherwise."""
    if _packing.get() is not None:
        return None
    mask: Tensor | None = sdpa_mask(*args, **kwargs)
    return mask


def register() -> None:
    """Make `attn_implementation="tunesmith_packed"` known to transformers; harmless when repeated."""
    AttentionInterface.register(NAME, attention_forward)
    AttentionMaskInterface.register(NAME, attention_mask)
