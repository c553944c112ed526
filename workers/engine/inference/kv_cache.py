"""Keys and values of the rows in flight: one slot a row, each with its own length, no padding between."""

from typing import Any

import torch
from transformers.cache_utils import Cache

_GROWTH_TOKENS = 128


class SlotCache(Cache):
    """A cache for rows that join and leave at any step.

    Row r keeps its tokens at positions 0 … length[r]-1 of its slot, so positions are plain and a row's
    arithmetic does not depend on its neighbours. Slots 0 … rows-1 are in use, without gaps. Per layer the
    tensors are [slots, heads, capacity, head_dim]; what lies past a row's length is masked, never read.
    """

    def __init__(self) -> None:
        super().__init__(layers=[])
        self._keys: list[torch.Tensor] = []
        self._values: list[torch.Tensor] = []
        self.lengths: list[int] = []
        self._first_slot = 0
        self._is_prefill = True
        self._rows = torch.empty(0, dtype=torch.long)
        self._positions = torch.empty(0, dtype=torch.long)

    @property
    def rows(self) -> int:
        return len(self.lengths)

    def begin_prefill(self, lengths: list[int]) -> None:
        """New rows take the next free slots; the coming forward brings their whole prompts, padded on the right."""
        self._is_prefill = True
        self._first_slot = len(self.lengths)
        self.lengths += lengths
        self._reserve(len(self.lengths), max(self.lengths))

    def begin_step(self, device: torch.device) -> torch.Tensor | None:
        """The coming forward brings one token for every row.

        Returns its attention mask, bool [rows, 1, 1, longest], or None where all rows are equally long.
        """
        self._is_prefill = False
        self._positions = torch.tensor(self.lengths, device=device)
        self._rows = torch.arange(self.rows, device=device)
        self.lengths = [length + 1 for length in self.lengths]
        longest = max(self.lengths)
        self._reserve(self.rows, longest)
        if min(self.lengths) == longest:
            return None
        columns = torch.arange(longest, device=device)
        return (columns[None, :] <= self._positions[:, None])[:, None, None, :]

    @property
    def positions(self) -> torch.Tensor:
        """Positions of the tokens of the current step, [rows]."""
        return self._positions

    def copy_row(self, source: int) -> None:
        """A new row that begins as a copy of `source`, for several choices of one prompt."""
        length = self.lengths[source]
        self.lengths.append(length)
        self._reserve(self.rows, max(self.lengths))
        for stored in (*self._keys, *self._values):
            stored[self.rows - 1, :, :length] = stored[source, :, :length]

    def drop_row(self, row: int) -> None:
        """Free a slot; the last row moves into it."""
        last = self.rows - 1
        if row != last:
            length = self.lengths[last]
            for stored in (*self._keys, *self._values):
                stored[row, :, :length] = stored[last, :, :length]
            self.lengths[row] = length
        self.lengths.pop()

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *_args: Any, **_kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store this forward's keys and values, [rows, heads, tokens, head_dim]; return all to attend to."""
        if layer_idx == len(self._keys):
            self._keys.append(self._new(key_states, self.rows, max(self.lengths)))
            self._values.append(self._new(value_states, self.rows, max(self.lengths)))
        keys, values = self._keys[layer_idx], self._values[layer_idx]
        if self._is_prefill:
            rows, tokens = slice(self._first_slot, self.rows), key_states.shape[2]
            keys[rows, :, :tokens] = key_states
            values[rows, :, :tokens] = value_states
            return key_states, value_states
        longest = max(self.lengths)
        if self.rows == 1:
            keys[0, :, longest - 1] = key_states[0, :, 0]
            values[0, :, longest - 1] = value_states[0, :, 0]
        else:
            keys[self._rows, :, self._positions] = key_states[:, :, 0]
            values[self._rows, :, self._positions] = value_states[:, :, 0]
        return keys[: self.rows, :, :longest], values[: self.rows, :, :longest]

    def get_seq_length(self, layer_idx: int = 0) -> int:  # noqa: ARG002 — all layers hold the same tokens
        return 0 if self._is_prefill else max(self.lengths) - 1

    def get_mask_sizes(self, query_length: int, layer_idx: int = 0) -> tuple[int, int]:
        return self.get_seq_length(layer_idx) + query_length, 0

    def _reserve(self, rows: int, tokens: int) -> None:
        if self._keys and (rows > self._keys[0].shape[0] or tokens > self._keys[0].shape[2]):
            self._keys = [self._grown(stored, rows, tokens) for stored in self._keys]
            self._values = [self._grown(stored, rows, tokens) for stored in self._values]

    @staticmethod
    def _new(like: torch.Tensor, rows: int, tokens: int) -> torch.Tensor:
        capacity = -(-tokens // _GROWTH_TOKENS) * _GROWTH_TOKENS
        # Zeros, not empty: masked places still enter 0 x value, and garbage may be NaN.
        return torch.zeros(rows, like.shape[1], capacity, like.shape[3], dtype=like.dtype, device=like.device)

    def _grown(self, stored: torch.Tensor, rows: int, tokens: int) -> torch.Tensor:
        grown = self._new(stored, max(rows, stored.shape[0]), max(tokens, stored.shape[2]))
        grown[: stored.shape[0], :, : stored.shape[2]] = stored
        return grown
