"""Texts for a classifier: tokenised once, packed end to end, each row with what is to be learned of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from workers.engine.base_model import ResidentBase
from workers.engine.training.attention import packed


class TokenisedText(Protocol):
    """What packing needs to know of a row."""

    @property
    def input_ids(self) -> npt.NDArray[np.int32]: ...
    @property
    def tokens(self) -> int: ...


RowT = TypeVar("RowT", bound=TokenisedText)


@dataclass(frozen=True)
class PackedTexts(Generic[RowT]):
    """Rows end to end, [T] tokens in all; positions restart in every row."""

    rows: tuple[RowT, ...]
    input_ids: Tensor  # [T]
    position_ids: Tensor  # [T]
    lengths: tuple[int, ...]
    targets: Tensor  # of the recipe
    places: Tensor  # positions in [T] that are judged, or empty where rows are
    count: int

    @property
    def row_tokens(self) -> int:
        return sum(self.lengths)

    def to(self, device: torch.device) -> "PackedTexts[RowT]":
        def move(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=True)

        return PackedTexts(
            self.rows,
            move(self.input_ids),
            move(self.position_ids),
            self.lengths,
            move(self.targets),
            move(self.places),
            self.count,
        )


def pack_texts(rows: Sequence[RowT], *, targets: Tensor, places: Tensor, count: int) -> PackedTexts[RowT]:
    """One batch of these rows in this order."""
    lengths = tuple(row.tokens for row in rows)
    return PackedTexts(
        rows=tuple(rows),
        input_ids=torch.from_numpy(np.concatenate([row.input_ids for row in rows]).astype(np.int64)),
        position_ids=torch.from_numpy(np.concatenate([np.arange(n, dtype=np.int64) for n in lengths])),
        lengths=lengths,
        targets=targets,
        places=places,
        count=count,
    )


def hidden_states(resident: ResidentBase, batch: PackedTexts[Any]) -> Tensor:
    """Last hidden states [T, hidden] in the base's dtype, under the adapters active now."""
    with packed(batch.lengths, resident.device):
        return resident.backbone(batch.input_ids.unsqueeze(0), batch.position_ids.unsqueeze(0)).squeeze(0)


@dataclass(frozen=True)
class Tokens:
    """A text as the base reads it. `offsets` are the characters [start, end) of each token; special ones are empty."""

    input_ids: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]  # [n, 2]
    word_ids: tuple[int | None, ...]
    is_truncated: bool


def tokenise(resident: ResidentBase, text: str, limit: int) -> Tokens:
    """Token ids with the tokenizer's own special tokens, cut at the end to `limit` tokens where it is longer.

    A decoder's text ends with its end token: the place its label is read from.
    """
    tokenizer: PreTrainedTokenizerBase = resident.tokenizer
    found = tokenizer(text, add_special_tokens=True, return_offsets_mapping=True)
    ids: list[int] = list(found["input_ids"])
    offsets = np.asarray(found["offset_mapping"], dtype=np.int64).reshape(-1, 2)
    words = list(found.word_ids())
    closing = _closing_tokens(resident, ids, words)
    if closing and closing[0] is not None:
        ids, offsets, words = [*ids, closing[0]], np.vstack([offsets, np.zeros((1, 2), np.int64)]), [*words, None]
    is_truncated = len(ids) > limit
    if is_truncated:
        tail = 1 if words[-1] is None else 0
        keep = np.r_[0 : limit - tail, len(ids) - tail : len(ids)]
        ids, offsets, words = [ids[i] for i in keep], offsets[keep], [words[i] for i in keep]
    return Tokens(np.asarray(ids, dtype=np.int32), offsets, tuple(words), is_truncated)


def _closing_tokens(resident: ResidentBase, ids: Sequence[int], words: Sequence[int | None]) -> list[int | None]:
    """The end token a decoder's text lacks."""
    if resident.family != "decoder" or (ids and words[-1] is None):
        return []
    return [resident.tokenizer.eos_token_id]
