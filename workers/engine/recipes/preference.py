"""The preference recipe: direct preference optimisation on pairs of answers (Rafailov et al. 2023, arXiv 2305.18290).

loss = -log sigmoid(beta * ((pi_c - ref_c) - (pi_r - ref_r))), where pi and ref are log p(answer | prompt) under the
model in training and under the one it starts from, of the preferred answer c and of the other one r.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from app.contracts.rows import ChatMessage, ChatRow, PreferenceRow, Row
from app.contracts.specs import DpoSpec
from workers.engine.base_model import ResidentBase
from workers.engine.recipes.chat import fit_prompt
from workers.engine.recipes.recipe import Beginning, EncodedRows, Poll, Score
from workers.engine.recipes.templates import EncodedRow, RowRefusedError, encode_row
from workers.engine.training.batches import PackedBatch, fill_bins, pack_in_order
from workers.engine.training.lora import AdapterWeights, activate
from workers.engine.training.loss import BatchLoss, token_losses

_REFERENCE_TOKENS = 4096


@dataclass(eq=False)
class EncodedPair:
    """One prompt with two answers, as two rows of tokens of which the answer alone is learned."""

    preferred: EncodedRow
    other: EncodedRow
    reference_margin: float | None = None
    """ref_c - ref_r in nats, known once the run has begun: nothing else of the reference model is kept."""

    @property
    def line(self) -> int:
        return self.preferred.line

    @property
    def tokens(self) -> int:
        return self.preferred.tokens + self.other.tokens

    @property
    def supervised_tokens(self) -> int:
        return self.preferred.supervised_tokens + self.other.supervised_tokens

    @property
    def is_truncated(self) -> bool:
        return self.preferred.is_truncated or self.other.is_truncated


@dataclass(frozen=True)
class PackedPairs:
    """Pairs that go through the base together: both rows of a pair, one after the other."""

    rows: tuple[EncodedPair, ...]
    packed: PackedBatch
    answer_tokens: tuple[int, ...]  # learned tokens of each packed row

    @property
    def count(self) -> int:
        return len(self.rows)

    @property
    def row_tokens(self) -> int:
        return self.packed.row_tokens

    @property
    def reference_margins(self) -> Tensor:
        """ref_c - ref_r of each pair, [pairs] fp32 on the CPU."""
        return torch.tensor([pair.reference_margin for pair in self.rows])

    def to(self, device: torch.device) -> "PackedPairs":
        return PackedPairs(self.rows, self.packed.to(device), self.answer_tokens)


@dataclass(frozen=True)
class PreferenceRecipe:
    """Each pair weighted alike. The validation loss chooses the checkpoint.

    Not the accuracy: a hair's breadth counts there as much as a clear preference, and on few held-out pairs it moves in
    steps and soon stands at one. The loss is the same preference scored by its probability.
    """

    resident: ResidentBase
    dpo: DpoSpec

    @property
    def vectors(self) -> Mapping[str, tuple[int, ...]]:
        return {}

    def encode(self, rows: Sequence[Row], *, max_length: int, on_progress: Callable[[int], None]) -> EncodedRows:
        kept: list[EncodedPair] = []
        dropped: list[tuple[int, str]] = []
        limit = min(max_length, self.resident.ref.context_length)
        for done, row in enumerate(cast("Sequence[PreferenceRow]", rows), start=1):
            try:
                kept.append(encode_pair(self.resident, row, limit))
            except RowRefusedError as refusal:
                dropped.append((row.line, str(refusal)))
            on_progress(done)
        return EncodedRows(tuple(kept), tuple(dropped))

    def begin(
        self,
        adapter: AdapterWeights,
        rows: Sequence[Any],
        others: Sequence[Any],
        *,
        is_fresh: bool,  # noqa: ARG002
        poll: Poll,
    ) -> Beginning:
        """Note what the starting weights say of every pair: they are the reference."""
        self.note_reference(adapter, [*rows, *others], poll)
        sentence = f"Preferences are learned against the model the run starts from, with beta {self.dpo.beta:g}."
        return Beginning((sentence,))

    def note_reference(self, adapter: AdapterWeights | None, pairs: Sequence[EncodedPair], poll: Poll) -> None:
        """Make `adapter` (None: the base alone) the reference of these pairs. Forward only, once."""
        for batch in self.pack(pairs, _REFERENCE_TOKENS):
            poll()
            with torch.no_grad(), activate(self.resident.linears, adapter):
                margins = self.answer_margins(batch.to(self.resident.device))
            for pair, margin in zip(batch.rows, margins.tolist(), strict=True):
                pair.reference_margin = margin

    def pack(self, rows: Sequence[Any], token_budget: int) -> Sequence[PackedPairs]:
        return [_pack_pairs(group) for group in fill_bins(cast("Sequence[EncodedPair]", rows), token_budget)]

    def answer_margins(self, batch: PackedPairs) -> Tensor:
        """Log p(preferred) - log p(other) of each pair, [pairs] fp32 in nats, under the adapters active now."""
        nll, _ = token_losses(self.resident, batch.packed)
        totals = torch.stack([part.sum() for part in torch.split(nll, list(batch.answer_tokens))])
        return totals[1::2] - totals[0::2]

    def loss(self, batch: Any, adapter: AdapterWeights) -> BatchLoss:  # noqa: ARG002
        return self.judge(batch, self.answer_margins(batch))

    def judge(self, batch: PackedPairs, margins: Tensor) -> BatchLoss:
        """The loss of pairs whose margins [pairs] are known.

        Right is a pair with a positive reward margin; one with none, where a model is its own reference, is half right.
        """
        rewards = self.dpo.beta * (margins - batch.reference_margins.to(margins.device))
        right = (rewards > 0).float() + (rewards == 0).float() / 2
        return BatchLoss(-logsigmoid(rewards).sum(), right.sum().detach(), batch.count, rewards.detach())

    def score(self, judged: Sequence[tuple[Sequence[Any], Tensor | None]]) -> Score | None:  # noqa: ARG002
        return None


def encode_pair(resident: ResidentBase, row: PreferenceRow, limit: int) -> EncodedPair:
    """Both answers after the same prompt; where the longer row exceeds `limit` tokens, both lose as much of it.

    Raises `RowRefusedError` when a row cannot be rendered, does not fit, or the answers are equal.
    """
    first, second = (
        encode_row(resident.tokenizer, answer_row(row, answer), resident.stop_token_ids)
        for answer in (row.preferred, row.non_preferred)
    )
    if np.array_equal(first.input_ids, second.input_ids):
        raise RowRefusedError("both answers are the same: there is nothing to prefer")
    excess = max(0, max(first.tokens, second.tokens) - limit)
    longest_first = sorted((first, second), key=lambda encoded: -encoded.tokens)
    # The longer one is cut first: a refusal speaks of the row that does not fit.
    fitted = {id(encoded): fit_prompt(resident, encoded, encoded.tokens - excess) for encoded in longest_first}
    return EncodedPair(fitted[id(first)], fitted[id(second)])


def answer_row(row: PreferenceRow, answer: ChatMessage) -> ChatRow:
    """The conversation ended by one of its answers, which alone is learned."""
    before = (
        message.model_copy(update={"weight": 0}) if message.role == "assistant" else message for message in row.messages
    )
    last = answer.model_copy(update={"weight": 1})
    return ChatRow(line=row.line, messages=(*before, last), tools=row.tools)


def _pack_pairs(pairs: Sequence[EncodedPair]) -> PackedPairs:
    rows = [row for pair in pairs for row in (pair.preferred, pair.other)]
    return PackedPairs(tuple(pairs), pack_in_order(rows), tuple(row.supervised_tokens for row in rows))
