"""Batched generation on the resident base with one adapter: rows join and leave at every step.

A row's answer depends on its prompt, its sampling and its seed, not on the rows beside it: each row has
its own cache slot, positions and random stream. (In 16-bit arithmetic a batch of another size may round
differently, so a near tie between two tokens can fall the other way; in fp32 answers are equal in tests.)
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import torch

from app.contracts.generation import FinishReason, PromptScored, TokenDelta, TokenLogprob, Usage
from workers.engine.base_model import ResidentBase
from workers.engine.inference.answer_text import AnswerText, Released
from workers.engine.inference.forward import decode_step, logits_of, prefill
from workers.engine.inference.kv_cache import SlotCache
from workers.engine.inference.logprobs import token_logprobs
from workers.engine.inference.prompt_scores import score_prompt
from workers.engine.inference.prompts import Prompt, prefill_groups, token_limit
from workers.engine.inference.sampling import TokenSampler
from workers.engine.inference.token_text import TokenText
from workers.engine.training.lora import AdapterWeights, activate

DEFAULT_MAX_ROWS = 16
DEFAULT_MAX_CACHE_TOKENS = 32_768  # about 1.5 GB of keys and values for a 135M base in fp32
_PLANNED_NEW_TOKENS = 512


@dataclass(frozen=True)
class StepDelta:
    """One line for the request `key`."""

    key: int
    line: PromptScored | TokenDelta


@dataclass(frozen=True)
class Ended:
    """All choices of the request `key` are finished."""

    key: int
    usage: Usage


StepEvent = StepDelta | Ended


@dataclass
class _Request:
    prompt: Prompt
    limit: int  # tokens a choice may have
    open_choices: int
    completion_tokens: int = 0


@dataclass
class _Row:
    """One choice in flight; its index in the list is its cache slot."""

    request: _Request
    choice: int
    sampler: TokenSampler
    text: AnswerText
    token_ids: list[int] = field(default_factory=list)


class RunningBatch:
    """The rows in flight on one base with one adapter (None = the base alone)."""

    def __init__(
        self,
        resident: ResidentBase,
        adapter: AdapterWeights | None,
        *,
        max_rows: int = DEFAULT_MAX_ROWS,
        max_cache_tokens: int = DEFAULT_MAX_CACHE_TOKENS,
    ) -> None:
        self.resident = resident
        self._adapter = adapter
        self._max_rows = max_rows
        self._max_cache_tokens = max_cache_tokens
        self._tokens = TokenText(resident.tokenizer)
        self._cache = SlotCache()
        self._rows: list[_Row] = []

    @property
    def is_idle(self) -> bool:
        return not self._rows

    def has_room(self, prompt: Prompt, waiting: Sequence[Prompt] = ()) -> bool:
        """Whether the request fits beside the rows in flight and those about to join; alone it always does.

        Long answers are planned with less than they may take: few take it, and the cache grows as needed.
        """
        if not self._rows and not waiting:
            return True
        rows = len(self._rows) + prompt.n + sum(other.n for other in waiting)
        joining = max(len(p.token_ids) + self._planned(p) for p in (prompt, *waiting))
        longest = max([joining, *self._cache.lengths])
        return rows <= self._max_rows and rows * longest <= self._max_cache_tokens

    def _planned(self, prompt: Prompt) -> int:
        return min(token_limit(prompt, self.resident), _PLANNED_NEW_TOKENS)

    def admit(self, prompts: Sequence[Prompt]) -> Iterator[StepEvent]:
        """Prefill new requests and draw the first token of each choice. Exhaust the iterator."""
        for group in prefill_groups(prompts):
            with torch.inference_mode(), self._adapter_context():
                yield from self._prefill(group)

    def step(self) -> list[StepEvent]:
        """Draw one more token for every row in flight."""
        if not self._rows:
            return []
        with torch.inference_mode(), self._adapter_context():
            hidden = decode_step(self.resident, self._cache, [row.token_ids[-1] for row in self._rows])
            return self._draw(list(range(len(self._rows))), logits_of(self.resident, hidden))

    def cancel(self, key: int) -> None:
        """Forget a request; its rows are free for others at once."""
        for row in reversed(range(len(self._rows))):
            if self._rows[row].request.prompt.key == key:
                self._drop(row)

    def _adapter_context(self) -> AbstractContextManager[None]:
        return activate(self.resident.linears, self._adapter)

    def _prefill(self, group: list[Prompt]) -> list[StepEvent]:
        events: list[StepEvent] = []
        first = len(self._rows)
        hidden = prefill(self.resident, self._cache, [prompt.token_ids for prompt in group])
        for place, prompt in enumerate(group):
            request = _Request(prompt, token_limit(prompt, self.resident), prompt.n)
            self._rows.append(self._new_row(request, 0))
            if prompt.echo is not None:
                scored = score_prompt(
                    self.resident,
                    prompt.token_ids,
                    hidden[place],
                    self._tokens,
                    text=prompt.echo.text,
                    hidden_tokens=prompt.echo.hidden,
                    alternatives=prompt.sampling.logprobs,
                )
                events.append(StepDelta(prompt.key, scored))
        last = torch.stack([hidden[place, len(prompt.token_ids) - 1] for place, prompt in enumerate(group)])
        logits = logits_of(self.resident, last)
        sources = list(range(len(group)))
        for place, prompt in enumerate(group):
            for choice in range(1, prompt.n):
                self._cache.copy_row(first + place)
                self._rows.append(self._new_row(self._rows[first + place].request, choice))
                sources.append(place)
        return events + self._draw(list(range(first, len(self._rows))), logits[sources])

    def _new_row(self, request: _Request, choice: int) -> _Row:
        prompt = request.prompt
        return _Row(
            request,
            choice,
            TokenSampler(prompt.sampling, choice),
            AnswerText(self._tokens, prompt.sampling.stop, first_offset=len(prompt.echo.text) if prompt.echo else 0),
        )

    def _draw(self, places: list[int], logits: torch.Tensor) -> list[StepEvent]:
        """Draw from logits [places, vocab] for those rows, report, and drop the rows that are over."""
        events: list[StepEvent] = []
        over: list[int] = []
        drawn = self._draw_tokens(places, logits)
        for i, place in enumerate(places):
            row = self._rows[place]
            delta = self._advance(row, drawn[i], logits[i : i + 1])
            if delta.text or delta.token_ids or delta.finish_reason:
                events.append(StepDelta(row.request.prompt.key, delta))
            if delta.finish_reason is not None:
                over.append(place)
                events += self._close(row.request)
        for place in reversed(over):
            self._drop(place)
        return events

    def _draw_tokens(self, places: list[int], logits: torch.Tensor) -> list[int]:
        samplers = [self._rows[place].sampler for place in places]
        if all(sampler.is_plain_greedy for sampler in samplers):
            greedy: list[int] = logits.argmax(-1).tolist()
            return greedy
        on_cpu = logits.cpu()
        return [sampler.draw(on_cpu[i]) for i, sampler in enumerate(samplers)]

    def _advance(self, row: _Row, token_id: int, logits: torch.Tensor) -> TokenDelta:
        """Take the drawn token into the row; logits [1, vocab] for its logprobs."""
        request = row.request
        if request.limit == 0:
            return TokenDelta(index=row.choice, text="", finish_reason="length")
        row.token_ids.append(token_id)
        row.sampler.count(token_id)
        request.completion_tokens += 1
        if token_id in self.resident.stop_token_ids and not request.prompt.ignores_end_tokens:
            return _delta(row, row.text.finish(), "stop", ending=self._ending(row, token_id, logits))
        logprob = self._logprob(request.prompt.sampling.logprobs, token_id, logits)
        released = row.text.push(token_id, logprob)
        if row.text.is_stopped:
            return _delta(row, released, "stop")
        if len(row.token_ids) >= request.limit:
            rest = row.text.finish()
            whole = Released(
                released.text + rest.text, released.token_ids + rest.token_ids, released.logprobs + rest.logprobs
            )
            return _delta(row, whole, "length")
        return _delta(row, released, None)

    def _logprob(self, alternatives: int | None, token_id: int, logits: torch.Tensor) -> TokenLogprob | None:
        if alternatives is None:
            return None
        return token_logprobs(logits, [token_id], alternatives=alternatives, tokens=self._tokens)[0]

    def _ending(self, row: _Row, token_id: int, logits: torch.Tensor) -> TokenLogprob | None:
        logprob = self._logprob(row.request.prompt.sampling.logprobs, token_id, logits)
        return None if logprob is None else logprob.model_copy(update={"text_offset": row.text.end_offset})

    def _close(self, request: _Request) -> list[StepEvent]:
        request.open_choices -= 1
        if request.open_choices:
            return []
        total = Usage(prompt_tokens=len(request.prompt.token_ids), completion_tokens=request.completion_tokens)
        return [Ended(request.prompt.key, total)]

    def _drop(self, place: int) -> None:
        self._cache.drop_row(place)
        last = self._rows.pop()
        if place < len(self._rows):
            self._rows[place] = last


def generate(
    resident: ResidentBase,
    adapter: AdapterWeights | None,
    prompts: Iterable[Prompt],
    *,
    max_rows: int = DEFAULT_MAX_ROWS,
) -> Iterator[StepEvent]:
    """Run all prompts, joining each as soon as there is room; events come step by step.

    Closing the iterator stops the work. A prompt that cannot fit raises `usage` before anything runs.
    """
    waiting = list(prompts)
    for prompt in waiting:
        token_limit(prompt, resident)
    batch = RunningBatch(resident, adapter, max_rows=max_rows)
    while waiting or not batch.is_idle:
        joining: list[Prompt] = []
        while waiting and batch.has_room(waiting[0], joining):
            joining.append(waiting.pop(0))
        yield from batch.admit(joining)
        yield from batch.step()


def _delta(
    row: _Row, released: Released, finish_reason: FinishReason | None, ending: TokenLogprob | None = None
) -> TokenDelta:
    return TokenDelta(
        index=row.choice,
        text=released.text,
        token_ids=released.token_ids,
        logprobs=released.logprobs if row.request.prompt.sampling.logprobs is not None else None,
        finish_reason=finish_reason,
        ending=ending,
    )
