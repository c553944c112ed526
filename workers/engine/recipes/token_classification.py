"""The token classification recipe: entities in texts, by the first token of each word, on encoders."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from app.contracts.rows import Row, Span, TaggedText
from workers.engine.base_model import ResidentBase
from workers.engine.recipes.head import Fitted, Probe, class_losses, fit_probe, head_logits, head_vectors, start_head
from workers.engine.recipes.label_scores import count_spans, span_f1
from workers.engine.recipes.recipe import Beginning, EncodedRows, Poll, Score
from workers.engine.recipes.tags import most_likely, tag_count, to_spans, to_tags
from workers.engine.recipes.texts import PackedTexts, hidden_states, pack_texts, tokenise
from workers.engine.training.batches import fill_bins
from workers.engine.training.lora import AdapterWeights, activate
from workers.engine.training.loss import BatchLoss

_PROBE_TOKENS = 4096
# More say nothing new to a linear layer, and it is fitted in memory.
_PROBE_WORDS = 20_000


@dataclass(frozen=True)
class TaggedIds:
    """One text as tokens, with its words: where each starts in the tokens and which characters it covers."""

    line: int
    input_ids: npt.NDArray[np.int32]
    places: npt.NDArray[np.int64]  # [words]
    words: tuple[tuple[int, int], ...]
    tags: npt.NDArray[np.int64]  # [words]
    spans: tuple[Span, ...]
    is_truncated: bool

    @property
    def tokens(self) -> int:
        return len(self.input_ids)

    @property
    def supervised_tokens(self) -> int:
        return len(self.places)


@dataclass(frozen=True)
class TokenClassification:
    """Loss of each word weighted alike; strict entity F1 chooses the checkpoint."""

    resident: ResidentBase
    labels: tuple[str, ...]

    @property
    def vectors(self) -> Mapping[str, tuple[int, ...]]:
        return head_vectors(tag_count(len(self.labels)), self.resident.hidden_size)

    def encode(self, rows: Sequence[Row], *, max_length: int, on_progress: Callable[[int], None]) -> EncodedRows:
        limit = min(max_length, self.resident.ref.context_length)
        kept: list[TaggedIds] = []
        dropped: list[tuple[int, str]] = []
        for done, row in enumerate(cast("Sequence[TaggedText]", rows), start=1):
            unknown = [span.label for span in row.spans if span.label not in self.labels]
            encoded = None if unknown else self.encode_text(row.text, limit, line=row.line, spans=row.spans)
            if encoded is None:
                dropped.append((row.line, f"the label '{unknown[0]}' is none of the training rows'"))
            elif not encoded.words:
                dropped.append((row.line, "has no word to tag"))
            else:
                kept.append(encoded)
            on_progress(done)
        return EncodedRows(tuple(kept), tuple(dropped))

    def encode_text(self, text: str, limit: int, *, line: int = 1, spans: tuple[Span, ...] = ()) -> TaggedIds:
        """A text with its words; words are the tokenizer's own, cut at white space and punctuation."""
        tokens = tokenise(self.resident, text, limit)
        places: list[int] = []
        words: list[tuple[int, int]] = []
        before: int | None = None
        for place, word in enumerate(tokens.word_ids):
            if word is None:
                before = None
                continue
            start, end = (int(value) for value in tokens.offsets[place])
            if word == before:
                words[-1] = (words[-1][0], max(end, words[-1][1]))
            elif end > start:
                places.append(place)
                words.append((start, end))
            before = word
        return TaggedIds(
            line=line,
            input_ids=tokens.input_ids,
            places=np.asarray(places, dtype=np.int64),
            words=tuple(words),
            tags=to_tags(words, spans, self.labels),
            spans=spans,
            is_truncated=tokens.is_truncated,
        )

    def begin(
        self,
        adapter: AdapterWeights,
        rows: Sequence[Any],
        others: Sequence[Any],  # noqa: ARG002
        *,
        is_fresh: bool,
        poll: Poll,
    ) -> Beginning:
        """Start the head from a probe on the frozen base."""
        if not is_fresh:
            return Beginning()
        probe = self.probe(rows, poll)
        start_head(adapter, Fitted(probe, start=probe))
        sentence = f"The head of {len(self.labels)} entity types starts from a logistic regression on frozen features."
        return Beginning((sentence,))

    def probe(self, rows: Sequence[TaggedIds], poll: Poll) -> Probe:
        """Logistic regression on the frozen base's features of the words, of the first rows that hold enough."""
        features: list[Tensor] = []
        targets: list[Tensor] = []
        words = 0
        for batch in self.pack(rows, _PROBE_TOKENS):
            if words >= _PROBE_WORDS:
                break
            poll()
            words += batch.count
            with torch.no_grad(), activate(self.resident.linears, None):
                features.append(self.features(batch.to(self.resident.device)).float())
            targets.append(batch.targets)
        wanted = torch.cat(targets).to(self.resident.device)
        return fit_probe(torch.cat(features), wanted, tag_count(len(self.labels)), poll=poll)

    def features(self, batch: PackedTexts[TaggedIds]) -> Tensor:
        """What the head reads: [words, hidden]."""
        return hidden_states(self.resident, batch).index_select(0, batch.places)

    def pack(self, rows: Sequence[Any], token_budget: int) -> Sequence[PackedTexts[TaggedIds]]:
        return [self._pack_one(group) for group in fill_bins(cast("Sequence[TaggedIds]", rows), token_budget)]

    def _pack_one(self, rows: Sequence[TaggedIds]) -> PackedTexts[TaggedIds]:
        starts = np.concatenate([[0], np.cumsum([row.tokens for row in rows])[:-1]])
        places = np.concatenate([row.places + start for row, start in zip(rows, starts, strict=True)])
        targets = np.concatenate([row.tags for row in rows])
        return pack_texts(
            rows,
            targets=torch.from_numpy(targets),
            places=torch.from_numpy(places.astype(np.int64)),
            count=len(places),
        )

    def loss(self, batch: Any, adapter: AdapterWeights) -> BatchLoss:
        return self.judge(batch, head_logits(adapter, self.features(batch)))

    def judge(self, batch: PackedTexts[TaggedIds], logits: Tensor) -> BatchLoss:
        """The loss of a batch whose logits [words, tags] are known."""
        losses = class_losses(logits, batch.targets, is_multi=False)
        with torch.no_grad():
            correct = (logits.argmax(1) == batch.targets).sum()
        return BatchLoss(losses.sum(), correct, batch.count, logits.detach())

    def spans(self, rows: Sequence[TaggedIds], logits: Tensor) -> list[list[tuple[Span, float]]]:
        """The entities of each row of a batch with their probability: the mean over their words."""
        found: list[list[tuple[Span, float]]] = []
        log_probabilities = logits.float().log_softmax(1).cpu().numpy()
        start = 0
        for row in rows:
            part = log_probabilities[start : start + len(row.words)]
            start += len(row.words)
            tags = most_likely(part) if len(part) else np.empty(0, dtype=np.int64)
            likelihood = np.exp(part[np.arange(len(tags)), tags])
            entities = to_spans(tags, row.words, self.labels)
            found.append([(span, float(likelihood[places.start : places.stop].mean())) for span, places in entities])
        return found

    def score(self, judged: Sequence[tuple[Sequence[Any], Tensor | None]]) -> Score | None:
        totals = np.zeros(3, dtype=np.int64)
        for rows, logits in judged:
            for row, found in zip(rows, self.spans(rows, cast("Tensor", logits)), strict=True):
                totals += count_spans(row.spans, [span for span, _ in found])
        return Score("span_f1", span_f1(*(int(total) for total in totals)))
