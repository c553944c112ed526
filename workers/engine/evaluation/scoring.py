"""Teacher-forced loss and token accuracy: forward only, packed, the same number for any batch size."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from app.contracts.errors import usage
from workers.engine.base_model import ResidentBase
from workers.engine.recipes.templates import EncodedRow
from workers.engine.training.batches import pack
from workers.engine.training.lora import AdapterWeights, activate
from workers.engine.training.loss import batch_loss


@dataclass(frozen=True)
class TokenScores:
    """Over all supervised tokens of all rows, each counted once."""

    loss: float  # nats per token
    token_accuracy: float
    supervised_tokens: int


def score_rows(
    resident: ResidentBase,
    adapter: AdapterWeights | None,
    rows: Sequence[EncodedRow],
    *,
    token_budget: int,
    on_batch: Callable[[int], None] = lambda _rows: None,
) -> TokenScores:
    """Sum of losses ÷ number of supervised tokens; `on_batch(rows)` after each batch may raise to stop.

    Usage failure `loss_not_finite` when the model's probabilities are not numbers.
    """
    figures = torch.zeros(2, dtype=torch.float64, device=resident.device)
    supervised = 0
    for batch in pack(rows, token_budget):
        with torch.inference_mode(), activate(resident.linears, adapter):
            found = batch_loss(resident, batch.to(resident.device))
        figures += torch.stack((found.nll_sum, found.correct)).double()
        supervised += found.count
        on_batch(len(batch.lengths))
    nll, correct = figures.tolist()
    if not math.isfinite(nll):
        raise usage(
            "loss_not_finite",
            f"The loss of the {'base' if adapter is None else 'tuned'} model on the held-out rows is not a finite "
            "number. Train again with a lower learning rate, or look for broken rows.",
        )
    return TokenScores(nll / supervised, correct / supervised, supervised)
