"""Texts written by an encoder-decoder: greedy, in batches of similar sources, each source encoded once.

A base's own settings for generation (least lengths, banned repetitions, beams) are for the task it came with and
are left out; the token every target begins with and tokens that must never be written are kept.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import torch
from transformers.cache_utils import DynamicCache, EncoderDecoderCache

from workers.engine.base_model import ResidentBase
from workers.engine.encoder_decoder import decode, encode
from workers.engine.inference.forward import logits_of
from workers.engine.recipes.pairs import encode_source, frame_of
from workers.engine.training.lora import AdapterWeights, activate

BATCH_ROWS = 16


class Source(NamedTuple):
    """A text as the encoder reads it."""

    token_ids: Sequence[int]
    is_truncated: bool = False


class WrittenText(NamedTuple):
    """`tokens` counts what was drawn, the end token included."""

    text: str
    finish_reason: Literal["stop", "length"]
    tokens: int


def read_source(resident: ResidentBase, text: str) -> Source:
    """The text in tokens; its end is cut where it is longer than the context."""
    return Source(*encode_source(resident, text, resident.ref.context_length))


def write_texts(
    resident: ResidentBase,
    adapter: AdapterWeights | None,
    inputs: Sequence[str | Source],
    *,
    max_new_tokens: int,
    poll: Callable[[], None] = lambda: None,
) -> list[WrittenText]:
    """One text for each input, in their order. `poll` is called at every token and may raise to stop."""
    sources = [read_source(resident, item) if isinstance(item, str) else item for item in inputs]
    writing = Writing(resident, adapter, sources, max_new_tokens=max_new_tokens)
    while not writing.is_done:
        poll()
        writing.step()
    return writing.texts


class Writing:
    """The work of `write_texts`, a token of one batch a step, so that others can have turns in between."""

    def __init__(
        self,
        resident: ResidentBase,
        adapter: AdapterWeights | None,
        sources: Sequence[Source],
        *,
        max_new_tokens: int,
    ) -> None:
        self._resident = resident
        self._adapter = adapter
        self._sources = sources
        self._limit = min(max_new_tokens, resident.ref.context_length)
        self._found: dict[int, WrittenText] = {}
        by_length = sorted(range(len(sources)), key=lambda place: len(sources[place].token_ids))
        self._groups = deque(by_length[start : start + BATCH_ROWS] for start in range(0, len(by_length), BATCH_ROWS))
        self._batch: SourceBatch | None = None
        self._steps = 0  # taken with the batch in hand

    @property
    def is_done(self) -> bool:
        return len(self._found) == len(self._sources)

    @property
    def texts(self) -> list[WrittenText]:
        """Once it is done: in the order of the sources."""
        return [self._found[place] for place in range(len(self._sources))]

    def step(self) -> None:
        """One more token for every unfinished text of the batch in hand; the first also encodes its sources."""
        if self._batch is None:
            sources = [self._sources[place].token_ids for place in self._groups[0]]
            self._batch, self._steps = SourceBatch(self._resident, self._adapter, sources), 0
        self._batch.step()
        self._steps += 1
        if self._batch.is_over or self._steps == self._limit:
            for place, ids in zip(self._groups.popleft(), self._batch.written, strict=True):
                self._found[place] = self._as_text(ids)
            self._batch = None

    def _as_text(self, ids: list[int]) -> WrittenText:
        text: Any = self._resident.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return WrittenText(text, "stop" if ids[-1] in self._resident.stop_token_ids else "length", len(ids))


class SourceBatch:
    """Sources encoded together, and what is written for each so far. Texts that are over leave the arithmetic."""

    def __init__(
        self,
        resident: ResidentBase,
        adapter: AdapterWeights | None,
        sources: Sequence[Sequence[int]],
        *,
        ignores_end_tokens: bool = False,  # to measure speed over a fixed number of tokens
    ) -> None:
        self._resident = resident
        self._adapter = adapter
        self._stops = () if ignores_end_tokens else resident.stop_token_ids
        self._frame = frame_of(resident)
        self._banned = _banned_tokens(resident)
        self.written: list[list[int]] = [[] for _ in sources]
        self._open = list(range(len(sources)))  # the texts in progress, by their row in the tensors
        self._cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        ids, self._mask = _padded(sources, resident.tokenizer.pad_token_id or 0, resident.device)
        with torch.inference_mode(), activate(resident.linears, adapter):
            self._memory = encode(resident.model, ids, self._mask)

    @property
    def is_over(self) -> bool:
        return not self._open

    def step(self) -> None:
        """One more token for every text in progress."""
        last = [self.written[place][-1] if self.written[place] else self._frame.start for place in self._open]
        with torch.inference_mode(), activate(self._resident.linears, self._adapter):
            inputs = torch.tensor(last, device=self._resident.device)[:, None]
            hidden = decode(self._resident.model, inputs, self._memory, self._mask, self._cache)[:, -1]
            drawn = self._draw(hidden)
            for place, token in zip(self._open, drawn, strict=True):
                self.written[place].append(token)
            self._keep([row for row, token in enumerate(drawn) if token not in self._stops])

    def _draw(self, hidden: torch.Tensor) -> list[int]:
        """The likeliest token after hidden states [rows, hidden]; the first may be given."""
        if self._frame.forced is not None and not self.written[self._open[0]]:
            return [self._frame.forced] * len(self._open)
        logits = logits_of(self._resident, hidden)
        logits[:, self._banned] = float("-inf")
        drawn: list[int] = logits.argmax(-1).tolist()
        return drawn

    def _keep(self, rows: list[int]) -> None:
        if len(rows) == len(self._open):
            return
        self._open = [self._open[row] for row in rows]
        kept = torch.tensor(rows, dtype=torch.long, device=self._resident.device)
        self._memory, self._mask = self._memory[kept], self._mask[kept]
        self._cache.batch_select_indices(kept)


def _padded(sources: Sequence[Sequence[int]], pad: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask, [sources, longest], padded on the right."""
    longest = max(len(source) for source in sources)
    ids = torch.tensor([[*source, *[pad] * (longest - len(source))] for source in sources])
    mask = torch.tensor([[1] * len(source) + [0] * (longest - len(source)) for source in sources])
    return ids.to(device), mask.to(device)


def _banned_tokens(resident: ResidentBase) -> list[int]:
    """Single tokens the base must never write: Marian's padding, whose embedding was not trained."""
    banned: list[list[int]] = getattr(resident.model.generation_config, "bad_words_ids", None) or []
    return [words[0] for words in banned if len(words) == 1]
