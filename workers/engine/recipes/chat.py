"""The chat recipe: conversations, and prompts with their completions, for decoders."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from torch import Tensor

from app.contracts.rows import ChatRow, Row
from workers.engine.base_model import ResidentBase
from workers.engine.recipes.recipe import Beginning, EncodedRows, Poll, Score
from workers.engine.recipes.templates import EncodedRow, RowRefusedError, encode_row, render_completion_prompt
from workers.engine.training.batches import PackedBatch, pack
from workers.engine.training.lora import AdapterWeights
from workers.engine.training.loss import BatchLoss, batch_loss


@dataclass(frozen=True)
class ChatRecipe:
    """Next-token loss on the assistant's answers; the validation loss chooses the checkpoint."""

    resident: ResidentBase

    @property
    def vectors(self) -> Mapping[str, tuple[int, ...]]:
        return {}

    def encode(self, rows: Sequence[Row], *, max_length: int, on_progress: Callable[[int], None]) -> EncodedRows:
        return encode_rows(
            self.resident, cast("Sequence[ChatRow]", rows), max_length=max_length, on_progress=on_progress
        )

    def begin(
        self,
        adapter: AdapterWeights,  # noqa: ARG002
        rows: Sequence[Any],  # noqa: ARG002
        others: Sequence[Any],  # noqa: ARG002
        *,
        is_fresh: bool,  # noqa: ARG002
        poll: Poll,  # noqa: ARG002
    ) -> Beginning:
        return Beginning()

    def pack(self, rows: Sequence[Any], token_budget: int) -> Sequence[PackedBatch]:
        return pack(rows, token_budget)

    def loss(self, batch: Any, adapter: AdapterWeights | None) -> BatchLoss:  # noqa: ARG002
        return batch_loss(self.resident, batch)

    def score(self, judged: Sequence[tuple[Sequence[Any], Tensor | None]]) -> Score | None:  # noqa: ARG002
        return None


def encode_rows(
    resident: ResidentBase,
    rows: Sequence[ChatRow],
    *,
    max_length: int,
    on_progress: Callable[[int], None] = lambda _done: None,
    fit: Callable[[ResidentBase, EncodedRow, int], EncodedRow] | None = None,
) -> EncodedRows:
    """Encode all rows; a row that cannot be trained on is dropped with its reason.

    `on_progress(done)` is called after each row and may raise to stop. `fit` shortens a row to a number of tokens;
    by default `fit_prompt` does.
    """
    shorten = fit or fit_prompt
    kept: list[EncodedRow] = []
    dropped: list[tuple[int, str]] = []
    limit = min(max_length, resident.ref.context_length)
    for done, row in enumerate(rows, start=1):
        try:
            kept.append(shorten(resident, encode_row(resident.tokenizer, row, resident.stop_token_ids), limit))
        except RowRefusedError as refusal:
            dropped.append((row.line, str(refusal)))
        on_progress(done)
    return EncodedRows(tuple(kept), tuple(dropped))


def fit_prompt(resident: ResidentBase, row: EncodedRow, limit: int) -> EncodedRow:
    """Cut the oldest prompt tokens so that the row has at most `limit`; never an answer.

    A BOS at the start stays. `RowRefusedError` when the answers and one prompt token do not fit.
    """
    excess = row.tokens - limit
    if excess <= 0:
        return row
    bos = render_completion_prompt(resident.tokenizer, "")[:1]
    head = len(bos) if row.input_ids[: len(bos)].tolist() == bos else 0
    first_answer = int(np.argmax(row.is_supervised))
    if head + excess >= first_answer:
        raise RowRefusedError(
            f"too long: {row.tokens} tokens, of which {row.tokens - first_answer} from the first answer on; "
            f"the limit is {limit}"
        )
    keep = np.r_[0:head, head + excess : row.tokens]
    return replace(row, input_ids=row.input_ids[keep], is_supervised=row.is_supervised[keep], is_truncated=True)
