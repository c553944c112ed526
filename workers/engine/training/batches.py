"""Which rows make an optimizer step, and how they are packed into micro-batches without padding."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from workers.engine.recipes.templates import EncodedRow


class _HasTokens(Protocol):
    @property
    def tokens(self) -> int: ...


Sized = TypeVar("Sized", bound=_HasTokens)


@dataclass(frozen=True)
class PackedBatch:
    """Rows end to end. All tensors are [T]; the input of a row is all its tokens but the last.

    `targets[i]` is the token after `input_ids[i]` in its row; `supervised` holds the positions
    where it counts. Shifting happens here, inside each row, so no target crosses a row.
    """

    rows: tuple[EncodedRow, ...]
    input_ids: Tensor
    position_ids: Tensor
    lengths: tuple[int, ...]
    supervised: Tensor  # [S] positions
    targets: Tensor  # [S] token ids
    row_tokens: int  # tokens of the rows, last ones included

    @property
    def count(self) -> int:
        """Supervised tokens."""
        return self.supervised.numel()

    def to(self, device: torch.device) -> "PackedBatch":
        def move(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=True)

        return PackedBatch(
            self.rows,
            move(self.input_ids),
            move(self.position_ids),
            self.lengths,
            move(self.supervised),
            move(self.targets),
            self.row_tokens,
        )


def steps_per_epoch(rows: int, batch_size: int) -> int:
    """Optimizer steps of one epoch; the last may have fewer rows."""
    return -(-rows // batch_size)


def epoch_order(rows: int, *, seed: int, epoch: int) -> list[int]:
    """A permutation of range(rows), a pure function of seed and epoch."""
    digest = hashlib.blake2b(f"order {seed} {epoch}".encode(), digest_size=8).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest) >> 1)
    order: list[int] = torch.randperm(rows, generator=generator).tolist()
    return order


def step_rows(rows: Sequence[Any], *, step: int, batch_size: int, seed: int) -> list[Any]:
    """The rows of optimizer step `step` (from 0), over all epochs."""
    epoch, place = divmod(step, steps_per_epoch(len(rows), batch_size))
    order = epoch_order(len(rows), seed=seed, epoch=epoch)
    return [rows[index] for index in order[place * batch_size : (place + 1) * batch_size]]


def pack(rows: Sequence[EncodedRow], token_budget: int) -> list[PackedBatch]:
    """Micro-batches of at most `token_budget` tokens (a longer row stands alone), first-fit decreasing."""
    return [pack_in_order(group) for group in fill_bins(rows, token_budget)]


def fill_bins(rows: Sequence[Sized], token_budget: int) -> list[list[Sized]]:
    """Rows in groups of at most `token_budget` tokens (a longer row stands alone), first-fit decreasing."""
    bins: list[list[Sized]] = []
    room: list[int] = []
    for row in sorted(rows, key=lambda row: -row.tokens):
        place = next((i for i, free in enumerate(room) if free >= row.tokens), None)
        if place is None:
            bins.append([row])
            room.append(token_budget - row.tokens)
        else:
            bins[place].append(row)
            room[place] -= row.tokens
    return bins


def pack_in_order(rows: Sequence[EncodedRow]) -> PackedBatch:
    """One batch of these rows in this order."""
    lengths = tuple(row.tokens - 1 for row in rows)
    input_ids = np.concatenate([row.input_ids[:-1] for row in rows]).astype(np.int64)
    following = np.concatenate([row.input_ids[1:] for row in rows]).astype(np.int64)
    supervised = np.flatnonzero(np.concatenate([row.is_supervised[1:] for row in rows]))
    return PackedBatch(
        rows=tuple(rows),
        input_ids=torch.from_numpy(input_ids),
        position_ids=torch.from_numpy(np.concatenate([np.arange(n, dtype=np.int64) for n in lengths])),
        lengths=lengths,
        supervised=torch.from_numpy(supervised),
        targets=torch.from_numpy(following[supervised]),
        row_tokens=sum(row.tokens for row in rows),
    )
