"""Cross-entropy over the vocabulary where the output matrix is trained too, in chunks: no logits are kept."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear


class TrainedHeadCrossEntropy(torch.autograd.Function):
    """-log p(target) of each position and count of right argmaxes, with the gradient of the output matrix.

    hidden [S, h], weight [V, h], bias [V] or None (not trained), targets [S], positions of a chunk → [S] fp32 in
    nats, and a 0-dim fp32 tensor. The logits are made a second time going backward: what the matrix learns of a
    position depends on the gradient of its loss.
    """

    @staticmethod
    def forward(  # noqa: PLR0917 autograd passes its inputs by position
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, chunk: int
    ) -> Any:
        nll = torch.empty(hidden.shape[0], dtype=torch.float32, device=hidden.device)
        correct = torch.zeros((), dtype=torch.float32, device=hidden.device)
        for start in range(0, hidden.shape[0], chunk):
            part = slice(start, start + chunk)
            logits = _logits(hidden[part], weight, bias)
            wanted = targets[part].unsqueeze(1)
            nll[part] = (logits.logsumexp(dim=1, keepdim=True) - logits.gather(1, wanted)).squeeze(1)
            correct += (logits.argmax(dim=1, keepdim=True) == wanted).sum()
        ctx.save_for_backward(hidden, weight, bias, targets)
        ctx.chunk = chunk
        ctx.mark_non_differentiable(correct)
        return nll, correct

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        hidden, weight, bias, targets = ctx.saved_tensors
        grad_hidden = torch.empty_like(hidden)
        grad_weight = torch.zeros_like(weight, dtype=torch.float32)
        for start in range(0, hidden.shape[0], ctx.chunk):
            part = slice(start, start + ctx.chunk)
            wanted = targets[part].unsqueeze(1)
            errors = _logits(hidden[part], weight, bias).softmax(dim=1)
            errors.scatter_add_(1, wanted, torch.full_like(wanted, -1, dtype=torch.float32))
            errors = (errors * grad_outputs[0][part].unsqueeze(1)).to(weight.dtype)
            grad_hidden[part] = errors @ weight
            grad_weight += errors.t() @ hidden[part]
        return grad_hidden, grad_weight.to(weight.dtype), None, None, None


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """[n, V] fp32."""
    logits = linear(hidden, weight).float()
    return logits if bias is None else logits + bias
