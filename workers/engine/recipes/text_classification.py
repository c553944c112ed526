"""The text classification recipe: one label a text, or any number of them, on encoders and decoders."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from app.contracts.reports import SuspectLabel
from app.contracts.rows import LabelledText, Row
from workers.engine.base_model import ResidentBase
from workers.engine.evaluation.calibration import label_calibration
from workers.engine.recipes.head import (
    class_losses,
    fit_head,
    head_logits,
    head_vectors,
    pool,
    start_head,
)
from workers.engine.recipes.label_quality import find_suspects
from workers.engine.recipes.label_scores import macro_f1
from workers.engine.recipes.learning_curve import learning_curve
from workers.engine.recipes.recipe import Beginning, EncodedRows, Poll, Score
from workers.engine.recipes.texts import PackedTexts, hidden_states, pack_texts, tokenise
from workers.engine.training.batches import fill_bins
from workers.engine.training.lora import AdapterWeights, activate
from workers.engine.training.loss import BatchLoss

_PROBE_TOKENS = 4096


@dataclass(frozen=True)
class LabelledIds:
    """One text as tokens with the indices of its labels."""

    line: int
    input_ids: npt.NDArray[np.int32]
    labels: tuple[int, ...]
    is_truncated: bool

    @property
    def tokens(self) -> int:
        return len(self.input_ids)

    @property
    def supervised_tokens(self) -> int:
        return 1


@dataclass(frozen=True)
class TextClassification:
    """Loss of each text weighted alike; macro-F1 chooses the checkpoint."""

    resident: ResidentBase
    labels: tuple[str, ...]
    is_multi_label: bool = False

    @property
    def vectors(self) -> Mapping[str, tuple[int, ...]]:
        return head_vectors(len(self.labels), self.resident.hidden_size)

    @property
    def pooling(self) -> Literal["mean", "last"]:
        return "mean" if self.resident.family == "encoder" else "last"

    def encode(self, rows: Sequence[Row], *, max_length: int, on_progress: Callable[[int], None]) -> EncodedRows:
        limit = min(max_length, self.resident.ref.context_length)
        index = {label: place for place, label in enumerate(self.labels)}
        kept: list[LabelledIds] = []
        dropped: list[tuple[int, str]] = []
        for done, row in enumerate(cast("Sequence[LabelledText]", rows), start=1):
            unknown = [label for label in row.labels if label not in index]
            if unknown:
                dropped.append((row.line, f"the label '{unknown[0]}' is none of the training rows'"))
            elif not self.is_multi_label and len(row.labels) != 1:
                dropped.append((row.line, f"has {len(row.labels)} labels where each text has one"))
            else:
                labels = tuple(index[label] for label in row.labels)
                kept.append(self.encode_text(row.text, limit, line=row.line, labels=labels))
            on_progress(done)
        return EncodedRows(tuple(kept), tuple(dropped))

    def encode_text(self, text: str, limit: int, *, line: int = 1, labels: tuple[int, ...] = ()) -> LabelledIds:
        """A text with the indices of its labels."""
        tokens = tokenise(self.resident, text, limit)
        return LabelledIds(line, tokens.input_ids, labels, tokens.is_truncated)

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
        lines, features, targets = self._frozen(rows, poll)
        start_head(adapter, fit_head(features, targets, len(self.labels), poll=poll, is_multi=self.is_multi_label))
        sentence = (
            f"The head of {len(self.labels)} labels starts from a logistic regression on the frozen base's features."
        )
        if self.is_multi_label:
            return Beginning((sentence,))
        found = find_suspects(features, targets, len(self.labels), poll=poll)
        suspects = tuple(
            SuspectLabel(
                line=lines[one.place],
                label=self.labels[int(targets[one.place])],
                likelier=self.labels[one.likelier],
                confidence=one.confidence,
            )
            for one in found
        )
        return Beginning((sentence,), suspects, learning_curve(features, targets, len(self.labels), poll=poll))

    def _frozen(self, rows: Sequence[LabelledIds], poll: Poll) -> tuple[list[int], Tensor, Tensor]:
        """Lines, the frozen base's features [n, hidden] and the targets of the rows, packed."""
        batches = self.pack(rows, _PROBE_TOKENS)
        features = []
        for batch in batches:
            poll()
            with torch.no_grad(), activate(self.resident.linears, None):
                features.append(self.features(batch.to(self.resident.device)))
        targets = torch.cat([batch.targets for batch in batches]).to(self.resident.device)
        return [row.line for batch in batches for row in batch.rows], torch.cat(features), targets

    def features(self, batch: PackedTexts[LabelledIds]) -> Tensor:
        """What the head reads: [rows, hidden] fp32."""
        return pool(hidden_states(self.resident, batch), batch.lengths, self.pooling)

    def pack(self, rows: Sequence[Any], token_budget: int) -> Sequence[PackedTexts[LabelledIds]]:
        return [self._pack_one(group) for group in fill_bins(cast("Sequence[LabelledIds]", rows), token_budget)]

    def _pack_one(self, rows: Sequence[LabelledIds]) -> PackedTexts[LabelledIds]:
        nothing = torch.empty(0, dtype=torch.int64)
        if self.is_multi_label:
            targets = torch.zeros(len(rows), len(self.labels))
            for place, row in enumerate(rows):
                targets[place, list(row.labels)] = 1.0
        else:
            targets = torch.tensor([row.labels[0] if row.labels else 0 for row in rows], dtype=torch.int64)
        return pack_texts(rows, targets=targets, places=nothing, count=len(rows))

    def loss(self, batch: Any, adapter: AdapterWeights) -> BatchLoss:
        return self.judge(batch, head_logits(adapter, self.features(batch)))

    def judge(self, batch: PackedTexts[LabelledIds], logits: Tensor) -> BatchLoss:
        """The loss of a batch whose logits [rows, labels] are known."""
        losses = class_losses(logits, batch.targets, is_multi=self.is_multi_label)
        with torch.no_grad():
            if self.is_multi_label:
                correct = ((logits > 0) == (batch.targets > 0)).all(1).sum()
            else:
                correct = (logits.argmax(1) == batch.targets).sum()
        return BatchLoss(losses.sum(), correct, batch.count, logits.detach())

    def chosen(self, logits: Tensor) -> list[tuple[int, ...]]:
        """Indices of the labels each row of logits [n, labels] stands for."""
        if self.is_multi_label:
            return [tuple(row.nonzero().flatten().tolist()) for row in (logits > 0).cpu()]
        return [(int(place),) for place in logits.argmax(1).tolist()]

    def score(self, judged: Sequence[tuple[Sequence[Any], Tensor | None]]) -> Score | None:
        truth: list[tuple[int, ...]] = []
        predicted: list[tuple[int, ...]] = []
        for rows, logits in judged:
            truth += [row.labels for row in cast("Sequence[LabelledIds]", rows)]
            predicted += self.chosen(cast("Tensor", logits))
        calibration = None
        if truth and not self.is_multi_label:
            outputs = torch.cat([cast("Tensor", logits).float().cpu() for _, logits in judged]).double().numpy()
            calibration = label_calibration(outputs, np.array([labels[0] for labels in truth]))
        return Score("macro_f1", macro_f1(truth, predicted), calibration)
