"""Teacher-forced loss and token accuracy: forward only, packed, the same number for any batch size."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch

from app.contracts.errors import usage
from workers.engine.base_model import ResidentBase
from workers.engine.recipes.chat import ChatRecipe
from workers.engine.recipes.summarization import Seq2SeqSummarization
from workers.engine.training.lora import AdapterWeights, activate


@dataclass(frozen=True)
class TokenScores:
    """Over all supervised tokens of all rows, each counted once."""

    loss: float  # nats per token
    token_accuracy: float
    supervised_tokens: int
    row_nats: tuple[float, ...]
    """Of each row, in the order given: the sum over its supervised tokens."""


def score_rows(
    resident: ResidentBase,
    adapter: AdapterWeights | None,
    rows: Sequence[Any],
    *,
    token_budget: int,
    recipe: ChatRecipe | Seq2SeqSummarization | None = None,
    on_batch: Callable[[int], None] = lambda _rows: None,
) -> TokenScores:
    """Sum of losses ÷ number of supervised tokens; `on_batch(rows)` after each batch may raise to stop.

    `rows` are those of the recipe, or of the chat recipe.
    Usage failure `loss_not_finite` when the model's probabilities are not numbers.
    """
    figures = torch.zeros(2, dtype=torch.float64, device=resident.device)
    nats: dict[int, float] = {}
    supervised = 0
    writer = recipe or ChatRecipe(resident)
    for batch in writer.pack(rows, token_budget):
        with torch.inference_mode(), activate(resident.linears, adapter):
            found = writer.loss(batch.to(resident.device), adapter)
        figures += torch.stack((found.nll_sum, found.correct)).double()
        supervised += found.count
        sizes = [row.supervised_tokens for row in batch.rows]
        per_row = torch.split(cast("torch.Tensor", found.token_nll).double(), sizes)
        nats |= zip(
            (row.line for row in batch.rows), torch.stack([part.sum() for part in per_row]).tolist(), strict=True
        )
        on_batch(len(batch.rows))
    nll, correct = figures.tolist()
    if not math.isfinite(nll):
        raise usage(
            "loss_not_finite",
            f"The loss of the {'base' if adapter is None else 'tuned'} model on the held-out rows is not a finite "
            "number. Train again with a lower learning rate, or look for broken rows.",
        )
    return TokenScores(nll / supervised, correct / supervised, supervised, tuple(nats[row.line] for row in rows))
