"""Attention over packed rows: each row is a segment, and attention never crosses one.

Registered in transformers as `tunesmith_packed`. Inside `packed(...)` no mask is built and the
segments decide; outside it behaves as transformers' own `sdpa`, caches and masks included. An encoder-decoder's
cross-attention goes from each row of the decoder to the same row of the encoder.
"""

import inspect
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

from workers.engine.training.cpu_attention import attend

NAME = "tunesmith_packed"
# On the CPU torch's attention goes back through short bf16 rows at less than half the speed of fp32.
_FP32_LONGEST = 192
# What flash attention computes in: wide enough registers up to this head size, eight numbers at a time, 16 bits.
_FLASH_WIDEST_HEAD, _FLASH_HEAD_STEP = 256, 8
_FLASH_DTYPES = (torch.float16, torch.bfloat16)
# torch 2.11 takes grouped heads unasked; later ones want to be told.
_ASKS_FOR_GROUPS = "enable_gqa" in inspect.signature(varlen_attn).parameters


@dataclass(frozen=True)
class Packing:
    """Where the rows of a packed batch lie: lengths in tokens, their running sum, the longest."""

    lengths: tuple[int, ...]
    cumulative: Tensor  # [rows + 1] int32 on the batch's device
    longest: int
    memory: "Packing | None" = None  # of a decoder: the rows of the encoder that its cross-attention reads

    @property
    def positions(self) -> Tensor:
        """[sum(lengths)] int64: each token's place in its row."""
        tokens = sum(self.lengths)
        starts = torch.repeat_interleave(self.cumulative[:-1], self.cumulative.diff(), output_size=tokens)
        return torch.arange(tokens, device=starts.device) - starts


_packing: ContextVar[Packing | None] = ContextVar("packing", default=None)


@contextmanager
def packed(
    lengths: Sequence[int], device: torch.device, *, memory_lengths: Sequence[int] | None = None
) -> Iterator[None]:
    """Within: a forward pass of [1, sum(lengths)] tokens is `len(lengths)` rows that do not see each other.

    `memory_lengths`, for an encoder-decoder's decoder: where the same rows lie in the encoder's output.
    """
    memory = None if memory_lengths is None else _packing_of(memory_lengths, device, None)
    token = _packing.set(_packing_of(lengths, device, memory))
    try:
        yield
    finally:
        _packing.reset(token)


def current_packing() -> Packing | None:
    """Where the rows of the forward pass in progress lie; None outside `packed`."""
    return _packing.get()


def _packing_of(lengths: Sequence[int], device: torch.device, memory: Packing | None) -> Packing:
    cumulative = torch.zeros(len(lengths) + 1, dtype=torch.int32)
    cumulative[1:] = torch.tensor(lengths, dtype=torch.int32).cumsum(0)
    # Not waited for: a copy that is would wait for all that the device still has to do.
    return Packing(tuple(lengths), cumulative.to(device, non_blocking=True), max(lengths), memory)


def attention_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Packed or plain attention: query [1, heads, T, d], key and value [1, kv_heads, T, d] → [1, T, heads, d].

    A `position_bias` is [1, heads, at least longest, at least longest], with the causal mask in it where one is due.
    """
    packing = _packing.get()
    if packing is None:
        output, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
        return output, None
    scaling: float | None = kwargs.get("scaling")
    is_causal = bool(module.is_causal)
    # In a decoder with a memory the attention that is not causal is the cross-attention; it knows no positions.
    is_cross = packing.memory is not None and not is_causal
    keys = cast("Packing", packing.memory) if is_cross else packing
    bias: Tensor | None = None if is_cross else kwargs.get("position_bias")
    if bias is None and _suits_flash(query):
        return _varlen(query, key, value, rows=packing, keys=keys, scaling=scaling, is_causal=is_causal), None
    output = _by_segment(query, key, value, rows=packing, keys=keys, scaling=scaling, bias=bias, is_causal=is_causal)
    return output, None


def _suits_flash(query: Tensor) -> bool:
    """Whether the device's flash attention takes these heads; others are multiplied row by row, as on the CPU."""
    width = query.shape[-1]
    fits = width <= _FLASH_WIDEST_HEAD and width % _FLASH_HEAD_STEP == 0 and query.dtype in _FLASH_DTYPES
    return query.is_cuda and fits and torch.cuda.get_device_capability(query.device) >= (8, 0)


def _varlen(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    rows: Packing,
    keys: Packing,
    scaling: float | None,
    is_causal: bool,
) -> Tensor:
    q, k, v = (t.squeeze(0).transpose(0, 1) for t in (query, key, value))  # [T, heads, d]
    groups: dict[str, Any] = {"enable_gqa": q.shape[1] != k.shape[1]} if _ASKS_FOR_GROUPS else {}
    output = varlen_attn(
        q,
        k,
        v,
        rows.cumulative,
        keys.cumulative,
        rows.longest,
        keys.longest,
        scale=scaling,
        window_size=(-1, 0 if is_causal else -1),
        **groups,
    )
    return cast("Tensor", output).unsqueeze(0)


def _by_segment(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    rows: Packing,
    keys: Packing,
    scaling: float | None,
    bias: Tensor | None,
    is_causal: bool,
) -> Tensor:
    if bias is None:
        q, k, v = (t.squeeze(0) for t in (query, key, value))
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        return attend(q, k, v, rows.lengths, keys.lengths, scale=scale, is_causal=is_causal).unsqueeze(0)
    dtype = query.dtype
    if max(rows.longest, keys.longest) <= _FP32_LONGEST:
        query, key, value, bias = (t.float() for t in (query, key, value, bias))
    parts = [
        scaled_dot_product_attention(
            q,
            k,
            v,
            # Relative positions are the same in every row: the bias of a row is the corner of that of the longest.
            attn_mask=bias[:, :, : q.shape[2], : k.shape[2]],
            scale=scaling,
        )
        for q, k, v in zip(
            torch.split(query, list(rows.lengths), dim=2),
            *(torch.split(t, list(keys.lengths), dim=2) for t in (key, value)),
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
