"""Cross-entropy on supervised positions only, in chunks: no logits are kept."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from workers.engine.base_model import ResidentBase
from workers.engine.training.attention import packed
from workers.engine.training.batches import PackedBatch
from workers.engine.training.trained_head import TrainedHeadCrossEntropy

# fp32 logits of one chunk: on a GPU few chunks, which read the head's weights seldom; on the CPU what the caches hold.
_CHUNK_BYTES = {"cuda": 2**30, "cpu": 64 * 2**20}


@dataclass(frozen=True)
class BatchLoss:
    """Sums over what is supervised in a batch (tokens, words, rows or pairs), on the device."""

    nll_sum: Tensor  # 0-dim fp32, nats; carries the gradient
    correct: Tensor  # 0-dim fp32: how many of the most likely predictions are right
    count: int
    outputs: Tensor | None = None  # what a recipe's score is made of; detached, small
    token_nll: Tensor | None = None  # of a writing model: [count] fp32, in the order of the rows; detached


class _HeadCrossEntropy(torch.autograd.Function):
    """-log p(target) of each position and count of right argmaxes; head frozen, its gradient made going forward.

    hidden [S, h], weight [V, h], bias [V] or None, targets [S] → [S] fp32 in nats, and a 0-dim fp32 tensor.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Any:
        rows = _chunk_rows(weight)
        nll = torch.empty(hidden.shape[0], dtype=torch.float32, device=hidden.device)
        correct = torch.zeros((), dtype=torch.float32, device=hidden.device)
        wants_grad = ctx.needs_input_grad[0]
        grad = torch.empty_like(hidden) if wants_grad else None
        for start in range(0, hidden.shape[0], rows):
            part = slice(start, start + rows)
            logits = linear(hidden[part], weight).float()
            if bias is not None:
                logits += bias
            wanted = targets[part].unsqueeze(1)
            likeliest = logits.argmax(dim=1, keepdim=True)
            correct += (likeliest == wanted).sum()
            logits.sub_(logits.gather(1, likeliest))
            wanted_logits = logits.gather(1, wanted)
            # exp(logit - largest) is at most 1; the division that makes it a probability waits for the product.
            exponentials = logits.exp_()
            z = exponentials.sum(dim=1, keepdim=True)
            nll[part] = (z.log() - wanted_logits).squeeze(1)
            if grad is not None:
                expected = (exponentials.to(weight.dtype) @ weight).div_(z)
                grad[part] = expected.sub_(weight[targets[part]])
        ctx.save_for_backward(grad)
        ctx.mark_non_differentiable(correct)
        return nll, correct

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        (grad,) = ctx.saved_tensors
        return grad * grad_outputs[0].unsqueeze(1).to(grad.dtype), None, None, None


def token_losses(resident: ResidentBase, batch: PackedBatch) -> tuple[Tensor, Tensor]:
    """-log p of each supervised token, [S] fp32 in nats, and how many argmaxes are right (0-dim).

    Forwards one packed batch (on the base's device) under the adapters active now.
    """
    with packed(batch.lengths, resident.device):
        hidden = resident.backbone(batch.input_ids.unsqueeze(0), batch.position_ids.unsqueeze(0))
    return head_losses(resident, hidden.squeeze(0).index_select(0, batch.supervised), batch.targets)


def head_losses(resident: ResidentBase, hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """-log p of targets [S] after hidden states [S, h]: [S] fp32 in nats, and how many argmaxes are right (0-dim)."""
    weight, bias = resident.head_weight, resident.head_bias
    if weight.requires_grad:
        chunk = _chunk_rows(weight)
        nll, correct = TrainedHeadCrossEntropy.apply(hidden, weight, bias, targets, chunk)  # type: ignore[no-untyped-call]
    else:
        nll, correct = _HeadCrossEntropy.apply(hidden, weight, bias, targets)  # type: ignore[no-untyped-call]
    return nll, correct


def chunk_bytes(device: torch.device) -> int:
    """Memory of the fp32 logits that are held at once."""
    return _CHUNK_BYTES[device.type]


def _chunk_rows(head: Tensor) -> int:
    """Positions whose logits over the vocabulary are held at once."""
    return max(1, chunk_bytes(head.device) // (4 * head.shape[0]))


def batch_loss(resident: ResidentBase, batch: PackedBatch) -> BatchLoss:
    """The loss of a language model: summed over the supervised tokens of the batch."""
    nll, correct = token_losses(resident, batch)
    return BatchLoss(nll.sum(), correct, batch.supervised.numel(), token_nll=nll.detach())
