"""Texts written for texts, greedily, a token of one batch a step: on encoder-decoders and on decoders."""

import time
from collections import deque
from collections.abc import Sequence
from itertools import chain
from typing import cast

from app.contracts.errors import usage
from app.contracts.generation import FinishReason, TokenDelta
from app.contracts.predictions import Predictions, Written
from app.contracts.specs import SamplingSpec
from workers.engine.base_model import ResidentBase
from workers.engine.inference.generate import Ended, RunningBatch
from workers.engine.inference.prompts import Prompt
from workers.engine.inference.reading import read_some, truncated_places
from workers.engine.inference.seq2seq import Source, Writing, read_source
from workers.engine.recipes.summarization import source_prompt
from workers.engine.recipes.templates import RowRefusedError
from workers.engine.training.lora import AdapterWeights


class Seq2SeqRun:
    """On encoder-decoders; keeps the contract of `PredictionRun`."""

    def __init__(
        self, resident: ResidentBase, adapter: AdapterWeights, inputs: Sequence[str], max_new_tokens: int
    ) -> None:
        self._resident = resident
        self._adapter = adapter
        self._inputs = tuple(inputs)
        self._limit = max_new_tokens
        self._sources: list[Source] = []
        self._writing: Writing | None = None

    @property
    def is_done(self) -> bool:
        return self._writing is not None and self._writing.is_done

    def step(self) -> None:
        if self._writing is None:
            read_some(
                self._inputs,
                self._sources,
                self._resident.ref.context_length,
                lambda text, _: read_source(self._resident, text),
            )
            if len(self._sources) == len(self._inputs):
                self._writing = Writing(self._resident, self._adapter, self._sources, max_new_tokens=self._limit)
        else:
            self._writing.step()

    def predictions(self, *, since: float) -> Predictions:
        texts = cast("Writing", self._writing).texts
        return Predictions(
            predictions=tuple(Written(text=found.text, finish_reason=found.finish_reason) for found in texts),
            input_tokens=sum(len(source.token_ids) for source in self._sources),
            output_tokens=sum(found.tokens for found in texts),
            truncated=truncated_places(self._sources),
            total_ms=(time.monotonic() - since) * 1000,
        )


class DecoderRun:
    """On decoders, with the prompt they were trained on; keeps the contract of `PredictionRun`."""

    def __init__(
        self, resident: ResidentBase, adapter: AdapterWeights, inputs: Sequence[str], max_new_tokens: int
    ) -> None:
        self._resident = resident
        self._inputs = tuple(inputs)
        context = resident.ref.context_length
        # A long source leaves room for what is asked for, but at least half of the context is the source's.
        self._limit = context - min(max_new_tokens, context // 2)
        self._sampling = SamplingSpec(max_new_tokens=max_new_tokens, temperature=0, clip_to_context=True)
        self._prompts: list[Source] = []
        self._waiting: deque[Prompt] = deque()
        self._batch = RunningBatch(resident, adapter)
        self._texts = [""] * len(self._inputs)
        self._reasons: dict[int, FinishReason] = {}
        self._written_tokens = 0

    @property
    def is_done(self) -> bool:
        return len(self._reasons) == len(self._inputs)

    def step(self) -> None:
        if len(self._prompts) < len(self._inputs):
            read_some(self._inputs, self._prompts, self._limit, self._read)
            if len(self._prompts) == len(self._inputs):
                places = sorted(range(len(self._prompts)), key=lambda place: len(self._prompts[place].token_ids))
                self._waiting.extend(
                    Prompt(place, tuple(self._prompts[place].token_ids), self._sampling) for place in places
                )
        else:
            self._write_tokens()

    def predictions(self, *, since: float) -> Predictions:
        return Predictions(
            predictions=tuple(
                Written(text=text, finish_reason=self._reasons[place]) for place, text in enumerate(self._texts)
            ),
            input_tokens=sum(len(prompt.token_ids) for prompt in self._prompts),
            output_tokens=self._written_tokens,
            truncated=truncated_places(self._prompts),
            total_ms=(time.monotonic() - since) * 1000,
        )

    def _read(self, text: str, place: int) -> Source:
        try:
            return Source(*source_prompt(self._resident, text, self._limit))
        except RowRefusedError as refusal:
            raise usage("invalid_input", f"Text {place + 1} cannot be read: {refusal}.", param="inputs") from refusal

    def _write_tokens(self) -> None:
        """One more token for every text in progress; others join as there is room."""
        joining: list[Prompt] = []
        while self._waiting and self._batch.has_room(self._waiting[0], joining):
            joining.append(self._waiting.popleft())
        for event in chain(self._batch.admit(joining), self._batch.step()):
            if isinstance(event, Ended):
                self._written_tokens += event.usage.completion_tokens
            elif isinstance(event.line, TokenDelta):
                self._texts[event.key] += event.line.text
                if event.line.finish_reason is not None:
                    self._reasons[event.key] = event.line.finish_reason
