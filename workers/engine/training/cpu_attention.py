"""Attention of packed rows on the CPU as plain matrix products, forward and back, as one autograd node.

torch's flash attention takes two to three times as long here: it goes back through short bf16 rows slowly, and knows
no grouped heads. Rows are cut into blocks of queries, so that causal attention never multiplies far above the diagonal.
The probabilities of a block are kept for the way back where rows are short, and worked out again where they are long.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Any, cast

import torch
from torch import Tensor

_BLOCK = 128  # queries; larger blocks waste more above the diagonal, smaller ones multiply slower
_KEPT_LONGEST = 1024  # keys; beyond, keeping the probabilities would outgrow everything else that is kept


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    rows: Sequence[int],
    key_rows: Sequence[int],
    *,
    scale: float,
    is_causal: bool,
) -> Tensor:
    """From query [heads, T, d], key and value [kv_heads, S, d] to [T, heads, d]; row i sees the keys of row i.

    `rows` and `key_rows` are lengths in tokens that sum to T and S; equal where `is_causal`.
    """
    output = _Attention.apply(query, key, value, tuple(rows), tuple(key_rows), scale, is_causal)  # type: ignore[no-untyped-call]
    return cast("Tensor", output)


def kept_keys(row: int) -> int:
    """Probabilities that each query of a row of this length leaves in memory for each head, on average, at most."""
    return (row + _BLOCK) // 2 if row <= _KEPT_LONGEST else 0


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(  # noqa: PLR0917 autograd passes its inputs by position
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        rows: tuple[int, ...],
        key_rows: tuple[int, ...],
        scale: float,
        is_causal: bool,  # noqa: FBT001
    ) -> Tensor:
        heads, tokens, width = query.shape
        output = query.new_empty(tokens, heads, width)
        grouped = output.view(tokens, key.shape[0], -1, width).permute(1, 2, 0, 3)
        kept: list[Tensor] = []
        for q, k, v, row, out in _each_row(query, key, value, rows, key_rows, grouped):
            for first, last, keys in _blocks(row, k.shape[1], is_causal=is_causal):
                p = _probabilities(q[:, :, first:last], k[:, :keys], scale, is_causal=is_causal)
                out[:, :, first:last] = _ungroup(torch.bmm(p, v[:, :keys]), last - first)
                if k.shape[1] <= _KEPT_LONGEST:
                    kept.append(p)
        ctx.save_for_backward(query, key, value, *kept)
        ctx.settings = rows, key_rows, scale, is_causal
        return output

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        query, key, value, *kept = ctx.saved_tensors
        rows, key_rows, scale, is_causal = ctx.settings
        groups = key.shape[0]
        grad = grad_outputs[0].transpose(0, 1)  # [heads, T, d]
        grad_query, grad_key, grad_value = (torch.empty_like(t) for t in (query, key, value))
        probabilities = iter(kept)
        key_grads = zip(
            torch.split(grad_key, key_rows, 1),
            torch.split(grad_value, key_rows, 1),
            torch.split(grad, rows, 1),
            strict=True,
        )
        grouped = _group(grad_query, groups)
        for (q, k, v, row, dq), (dk, dv, g_row) in zip(
            _each_row(query, key, value, rows, key_rows, grouped), key_grads, strict=True
        ):
            g_row = _group(g_row, groups)  # noqa: PLW2901
            # fp32 sums where several blocks add to the same keys.
            sums = [torch.zeros(k.shape, dtype=torch.float32, device=k.device) for _ in range(2)]
            for first, last, keys in _blocks(row, k.shape[1], is_causal=is_causal):
                q_block = q[:, :, first:last]
                p = (
                    next(probabilities)
                    if k.shape[1] <= _KEPT_LONGEST
                    else _probabilities(q_block, k[:, :keys], scale, is_causal=is_causal)
                )
                g = g_row[:, :, first:last].reshape(groups, -1, g_row.shape[-1])
                grad_p = torch.bmm(g, v[:, :keys].transpose(1, 2))
                grad_s = torch._softmax_backward_data(grad_p, p, -1, p.dtype).mul_(scale)  # noqa: SLF001
                dq[:, :, first:last] = _ungroup(torch.bmm(grad_s, k[:, :keys]), last - first)
                sums[0][:, :keys] += torch.bmm(grad_s.transpose(1, 2), q_block.reshape(g.shape))
                sums[1][:, :keys] += torch.bmm(p.transpose(1, 2), g)
            dk.copy_(sums[0])
            dv.copy_(sums[1])
        return grad_query, grad_key, grad_value, None, None, None, None


def _each_row(  # noqa: PLR0917 the order is that of attention itself
    query: Tensor,
    key: Tensor,
    value: Tensor,
    rows: Sequence[int],
    key_rows: Sequence[int],
    grouped: Tensor,
) -> Iterator[tuple[Tensor, Tensor, Tensor, int, Tensor]]:
    """Of each row: q [kv_heads, group, n, d], k, v [kv_heads, m, d], n, its part of grouped [kv_heads, group, T, d]."""
    query = _group(query, key.shape[0])
    for (start, end), (key_start, key_end) in zip(
        pairwise(accumulate(rows, initial=0)), pairwise(accumulate(key_rows, initial=0)), strict=True
    ):
        part = slice(key_start, key_end)
        yield query[:, :, start:end], key[:, part], value[:, part], end - start, grouped[:, :, start:end]


def _blocks(row: int, keys: int, *, is_causal: bool) -> Iterator[tuple[int, int, int]]:
    """(first query, end, keys they may see) of each block of a row."""
    for first in range(0, row, _BLOCK):
        last = min(first + _BLOCK, row)
        yield first, last, last if is_causal else keys


def _probabilities(q: Tensor, k: Tensor, scale: float, *, is_causal: bool) -> Tensor:
    """[kv_heads, group * n, m] of q [kv_heads, group, n, d] and k [kv_heads, m, d]; the last query sees all m keys."""
    rows, keys = q.shape[2], k.shape[1]
    scores = torch.bmm(q.reshape(k.shape[0], -1, q.shape[3]) * scale, k.transpose(1, 2))
    if is_causal:
        above = torch.full((rows, rows), float("-inf"), dtype=scores.dtype, device=scores.device).triu_(1)
        scores.view(k.shape[0], -1, rows, keys)[..., keys - rows :] += above
    return scores.softmax(-1)


def _group(tensor: Tensor, kv_heads: int) -> Tensor:
    """[heads, n, d] → [kv_heads, group, n, d], a view."""
    return tensor.view(kv_heads, -1, *tensor.shape[1:])


def _ungroup(product: Tensor, rows: int) -> Tensor:
    """[kv_heads, group * n, d] → [kv_heads, group, n, d]."""
    return product.view(product.shape[0], -1, rows, product.shape[2])
