"""The largest micro-batch once, before the first step: what does not fit fails now, and not in the night."""

import torch

from workers.engine.base_model import ResidentBase
from workers.engine.training.lora import activate
from workers.engine.training.seats import Seat


def rehearse(resident: ResidentBase, seat: Seat) -> None:
    """Forward and back over the longest rows, as many as a micro-batch holds; leaves the seat as it was.

    The device's own out-of-memory error is raised as it comes.
    """
    longest_first = sorted(seat.rows, key=lambda row: -row.tokens)
    rows, tokens = longest_first[:1], longest_first[0].tokens
    for row in longest_first[1 : seat.spec.batch_size]:
        if tokens + row.tokens > seat.token_budget:
            break
        rows.append(row)
        tokens += row.tokens
    seat.poll_stop()
    for batch in seat.recipe.pack(rows, seat.token_budget):
        with activate(resident.linears, seat.adapter, dropout_key=(seat.spec.seed, 0, 0)):
            torch.autograd.backward(seat.recipe.loss(batch.to(resident.device), seat.adapter).nll_sum)
    seat.adapter.zero_grad()
