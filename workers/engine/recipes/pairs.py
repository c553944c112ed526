"""Pairs of texts as an encoder-decoder reads them: tokenised once, packed end to end on both sides."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from app.contracts.errors import usage
from app.contracts.rows import TextPair
from workers.engine.base_model import ResidentBase
from workers.engine.recipes.recipe import EncodedRows
from workers.engine.recipes.templates import RowRefusedError


@dataclass(frozen=True)
class Frame:
    """How a target is written in this base's tokens: [start] forced… text… end."""

    start: int
    """What the decoder is given before the first token."""
    forced: int | None
    """The token every target begins with: a language, BART's <s>."""
    end: int


@dataclass(frozen=True)
class PairIds:
    """One encoded pair; `target_ids` is what is learned, its end token included."""

    line: int
    source_ids: npt.NDArray[np.int32]
    target_ids: npt.NDArray[np.int32]
    is_truncated: bool

    @property
    def tokens(self) -> int:
        return len(self.source_ids) + len(self.target_ids)

    @property
    def supervised_tokens(self) -> int:
        return len(self.target_ids)


@dataclass(frozen=True)
class PackedPairs:
    """Rows end to end: [S] tokens of the encoder, [T] of the decoder, whose input is its target one place later."""

    rows: tuple[PairIds, ...]
    source_ids: Tensor  # [S]
    source_lengths: tuple[int, ...]
    decoder_ids: Tensor  # [T]
    targets: Tensor  # [T]
    target_lengths: tuple[int, ...]

    @property
    def count(self) -> int:
        return self.targets.numel()

    @property
    def row_tokens(self) -> int:
        return self.source_ids.numel() + self.targets.numel()

    def to(self, device: torch.device) -> "PackedPairs":
        def move(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=True)

        return PackedPairs(
            self.rows,
            move(self.source_ids),
            self.source_lengths,
            move(self.decoder_ids),
            move(self.targets),
            self.target_lengths,
        )


def frame_of(resident: ResidentBase) -> Frame:
    """Usage failure `unsupported_base` where the base does not say how a target begins or ends."""
    config: Any = resident.config
    tokenizer = resident.tokenizer
    probe: list[int] = tokenizer(text_target="a")["input_ids"]
    # mBART begins with the target's last token (transformers' `shift_tokens_right` of that model).
    start = probe[-1] if config.model_type == "mbart" else config.decoder_start_token_id
    end = tokenizer.eos_token_id
    if start is None or end is None:
        raise usage(
            "unsupported_base",
            f"Base '{resident.ref.id}' has no decoder_start_token_id in its config.json or no end token in its "
            "tokenizer. Choose another base.",
            param="model",
        )
    return Frame(start=start, forced=probe[0] if probe[0] in tokenizer.all_special_ids else None, end=end)


def encode_source(resident: ResidentBase, text: str, limit: int) -> tuple[list[int], bool]:
    """The encoder's tokens with the tokenizer's own special ones, and whether the text's end was cut to fit `limit`."""
    ids: list[int] = resident.tokenizer(text)["input_ids"]
    if len(ids) <= limit:
        return ids, False
    return resident.tokenizer(text, truncation=True, max_length=limit)["input_ids"], True


def encode_pairs(
    resident: ResidentBase, rows: Sequence[TextPair], *, max_length: int, on_progress: Callable[[int], None]
) -> EncodedRows:
    """Encode all rows; one that cannot be trained on is dropped with its reason.

    Source and target may have `max_length` tokens each, as they stand in two halves of the model. A longer source
    loses its end; a longer target is never cut.
    """
    kept: list[PairIds] = []
    dropped: list[tuple[int, str]] = []
    limit = min(max_length, resident.ref.context_length)
    end = frame_of(resident).end
    for done, row in enumerate(rows, start=1):
        try:
            target = _encode_target(resident, row.target, end, limit)
            source, is_truncated = encode_source(resident, row.source, limit)
            source_ids, target_ids = (np.asarray(ids, dtype=np.int32) for ids in (source, target))
            kept.append(PairIds(row.line, source_ids, target_ids, is_truncated))
        except RowRefusedError as refusal:
            dropped.append((row.line, str(refusal)))
        on_progress(done)
    return EncodedRows(tuple(kept), tuple(dropped))


def pack_pairs(rows: Sequence[PairIds], start: int) -> PackedPairs:
    """One batch of these rows in this order."""
    decoder_ids = [np.concatenate(([start], row.target_ids[:-1])) for row in rows]
    return PackedPairs(
        rows=tuple(rows),
        source_ids=_end_to_end([row.source_ids for row in rows]),
        source_lengths=tuple(len(row.source_ids) for row in rows),
        decoder_ids=_end_to_end(decoder_ids),
        targets=_end_to_end([row.target_ids for row in rows]),
        target_lengths=tuple(len(row.target_ids) for row in rows),
    )


def _encode_target(resident: ResidentBase, text: str, end: int, limit: int) -> list[int]:
    """The tokenizer's own form of a target, with its end token (which some tokenizers leave to the trainer)."""
    if not text:
        raise RowRefusedError("the target is empty")
    ids: list[int] = resident.tokenizer(text_target=text)["input_ids"]
    plain: list[int] = resident.tokenizer(text_target=text, add_special_tokens=False)["input_ids"]
    if end in plain:
        raise RowRefusedError("the target contains the end token")
    if end not in ids[1:]:
        ids = [*ids, end]
    if len(ids) > limit:
        raise RowRefusedError(f"too long: the target has {len(ids)} tokens; the limit is {limit}")
    return ids


def _end_to_end(parts: Sequence[npt.NDArray[Any]]) -> Tensor:
    return torch.from_numpy(np.concatenate(parts).astype(np.int64))
