"""DoRA: the length of each weight row is learned apart from its direction (Liu et al. 2024, arXiv 2402.09353).

y = g * (W x + s B A x) + b, with g = m / |W + s B A| for each output; no gradient goes through the norm (section 4.3).
"""

import torch
from torch import Tensor

from workers.engine.training.adapter_weights import LowRankWeights
from workers.engine.training.quantised import dense_weight


@torch.no_grad()
def squared_row_lengths(weight: Tensor) -> Tensor:
    """[out] fp32 of W [out, in]."""
    lengths: Tensor = torch.linalg.vector_norm(weight, dim=1, dtype=torch.float32)
    return lengths.square()


def gains(adapter: LowRankWeights, name: str, weight: Tensor, squared: Tensor) -> Tensor:
    """Factor g of one layer, [out] fp32, with the gradient of m; `squared` are the squared row lengths of W [out, in].

    The norms are worked out once after each change of the adapter.
    """
    if name not in adapter.row_lengths:
        with torch.inference_mode(False):  # kept for later passes, which may be of any mode
            adapter.row_lengths[name] = _row_lengths(adapter, name, weight, squared)
    return adapter.magnitudes[name] / adapter.row_lengths[name]


@torch.no_grad()
def _row_lengths(adapter: LowRankWeights, name: str, weight: Tensor, squared: Tensor) -> Tensor:
    """|w + s A^T b| of each row, [out] fp32, without forming B A: |w|^2 + 2 s b (A w) + s^2 b (A A^T) b."""
    a, b, s = adapter.compute_a[name], adapter.compute_b[name].float(), adapter.scaling
    cross = (b * (dense_weight(weight) @ a.t()).float()).sum(1)
    inner = ((b @ (a.float() @ a.float().t())) * b).sum(1)
    tiny = torch.finfo(torch.float32).tiny
    return (squared + 2 * s * cross + s * s * inner).clamp_min(tiny).sqrt()
