"""The summarization recipe, for any text written from a text: on decoders and on encoder-decoders.

A source that is too long loses its end, on both: what it is about stands at the beginning of most texts.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from torch import Tensor

from app.contracts.rows import ChatMessage, ChatRow, Row, TextPair
from workers.engine import encoder_decoder
from workers.engine.base_model import ResidentBase
from workers.engine.recipes.chat import ChatRecipe, encode_rows
from workers.engine.recipes.pairs import PackedPairs, PairIds, encode_pairs, frame_of, pack_pairs
from workers.engine.recipes.recipe import Beginning, EncodedRows, Poll, Score
from workers.engine.recipes.templates import EncodedRow, RowRefusedError, render_completion_prompt, render_prompt
from workers.engine.training.attention import packed
from workers.engine.training.batches import fill_bins
from workers.engine.training.lora import AdapterWeights
from workers.engine.training.loss import BatchLoss, head_losses

SEPARATOR = "\n\n"
"""Between source and target where a decoder has no chat template: ask such a model with the source and this."""


@dataclass(frozen=True)
class ChatSummarization(ChatRecipe):
    """On decoders: the source is the user's message and the target the answer, so that chat completions serve it.

    Without a chat template it is a completion, whose prompt is the source and `SEPARATOR`.
    """

    def encode(self, rows: Sequence[Row], *, max_length: int, on_progress: Callable[[int], None]) -> EncodedRows:
        return encode_rows(
            self.resident,
            chat_rows(self.resident, cast("Sequence[TextPair]", rows)),
            max_length=max_length,
            on_progress=on_progress,
            fit=fit_source,
        )


@dataclass(frozen=True)
class Seq2SeqSummarization:
    """On encoder-decoders: the encoder reads the source, the loss is on every token of the target."""

    resident: ResidentBase
    start: int
    """The decoder's first input."""

    @property
    def vectors(self) -> Mapping[str, tuple[int, ...]]:
        return {}

    def encode(self, rows: Sequence[Row], *, max_length: int, on_progress: Callable[[int], None]) -> EncodedRows:
        pairs = cast("Sequence[TextPair]", rows)
        return encode_pairs(self.resident, pairs, max_length=max_length, on_progress=on_progress)

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

    def pack(self, rows: Sequence[Any], token_budget: int) -> Sequence[PackedPairs]:
        groups = fill_bins(cast("Sequence[PairIds]", rows), token_budget)
        return [pack_pairs(group, self.start) for group in groups]

    def loss(self, batch: Any, adapter: AdapterWeights | None) -> BatchLoss:  # noqa: ARG002
        nll, correct = head_losses(self.resident, pair_hidden(self.resident, batch), batch.targets)
        return BatchLoss(nll.sum(), correct, batch.count, token_nll=nll.detach())

    def score(self, judged: Sequence[tuple[Sequence[Any], Tensor | None]]) -> Score | None:  # noqa: ARG002
        return None


def open_summarization(resident: ResidentBase) -> ChatSummarization | Seq2SeqSummarization:
    """The recipe as this base's family wants it."""
    if resident.family == "decoder":
        return ChatSummarization(resident)
    return Seq2SeqSummarization(resident, frame_of(resident).start)


def pair_hidden(resident: ResidentBase, batch: PackedPairs) -> Tensor:
    """The decoder's hidden states [T, hidden], scaled for the head, under the adapters active now."""
    with packed(batch.source_lengths, resident.device):
        memory = encoder_decoder.encode(resident.model, batch.source_ids.unsqueeze(0))
    with packed(batch.target_lengths, resident.device, memory_lengths=batch.source_lengths):
        return encoder_decoder.decode(resident.model, batch.decoder_ids.unsqueeze(0), memory).squeeze(0)


def chat_rows(resident: ResidentBase, pairs: Sequence[TextPair]) -> list[ChatRow]:
    """The pairs as a decoder is trained on them, and asked."""
    has_template = bool(resident.tokenizer.chat_template)
    return [
        ChatRow(
            line=pair.line,
            messages=(
                ChatMessage(role="user", content=pair.source if has_template else pair.source + SEPARATOR),
                ChatMessage(role="assistant", content=pair.target),
            ),
            is_completion=not has_template,
        )
        for pair in pairs
    ]


def fit_source(resident: ResidentBase, row: EncodedRow, limit: int) -> EncodedRow:
    """Cut the end of the source so that the row has at most `limit` tokens; what stands around it stays.

    `RowRefusedError` when that and the answer do not fit.
    """
    excess = row.tokens - limit
    if excess <= 0:
        return row
    answer = int(np.argmax(row.is_supervised))
    cut = _end_of_source(resident, row.input_ids[:answer].tolist(), excess)
    if cut is None:
        raise RowRefusedError(
            f"too long: {row.tokens} tokens, of which {row.tokens - answer} are the target's; the limit is {limit}"
        )
    keep = np.r_[0 : cut.start, cut.stop : row.tokens]
    return replace(row, input_ids=row.input_ids[keep], is_supervised=row.is_supervised[keep], is_truncated=True)


def source_prompt(resident: ResidentBase, text: str, limit: int) -> tuple[list[int], bool]:
    """What a decoder is asked with to write for a text, and whether the text's end was cut to fit `limit` tokens.

    `RowRefusedError` when what stands around the text does not fit, or the text holds control tokens.
    """
    (row,) = chat_rows(resident, [TextPair(line=1, source=text, target="")])
    asked = row.messages[0]
    if row.is_completion:
        prompt = render_completion_prompt(resident.tokenizer, asked.content or "")
    else:
        prompt = render_prompt(resident.tokenizer, [asked])
    excess = len(prompt) - limit
    if excess <= 0:
        return prompt, False
    cut = _end_of_source(resident, prompt, excess)
    if cut is None:
        raise RowRefusedError(f"the prompt around it has more than {limit} tokens")
    return prompt[: cut.start] + prompt[cut.stop :], True


def _end_of_source(resident: ResidentBase, prompt: list[int], tokens: int) -> range | None:
    """The places of the last `tokens` of the source in a prompt; None where it has not so many."""
    head, tail = _surroundings(resident, prompt)
    end = len(prompt) - tail
    return range(end - tokens, end) if end - tokens >= head else None


def _surroundings(resident: ResidentBase, prompt: list[int]) -> tuple[int, int]:
    """How many tokens of a prompt stand before its source and after it: those it shares with an empty source's."""
    tokenizer = resident.tokenizer
    if tokenizer.chat_template:
        empty = render_prompt(tokenizer, [ChatMessage(role="user", content="")])
    else:
        empty = render_completion_prompt(tokenizer, SEPARATOR)
    head = _shared(prompt, empty)
    return head, _shared(prompt[head:][::-1], empty[head:][::-1])


def _shared(left: Sequence[int], right: Sequence[int]) -> int:
    """Length of the longest common beginning."""
    pairs = zip(left, right, strict=False)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(left), len(right)))
