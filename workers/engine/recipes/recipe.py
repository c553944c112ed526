"""What every recipe offers to the loop: rows become batches, batches become losses, outputs become a score."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from app.contracts.errors import usage
from app.contracts.reports import LearningCurve, SuspectLabel
from app.contracts.rows import Row
from app.contracts.specs import LabelCalibration
from workers.engine.training.lora import AdapterWeights
from workers.engine.training.loss import BatchLoss

Poll = Callable[[], None]


class TrainableRow(Protocol):
    """One encoded row. What is supervised depends on the recipe: tokens, words, the row itself, a pair."""

    @property
    def line(self) -> int: ...
    @property
    def tokens(self) -> int: ...
    @property
    def supervised_tokens(self) -> int: ...
    @property
    def is_truncated(self) -> bool: ...


class Batch(Protocol):
    """Rows that go through the base in one forward pass."""

    @property
    def rows(self) -> Sequence[Any]:
        """In the order in which the batch's outputs stand."""
        ...

    @property
    def count(self) -> int:
        """What its loss sum is divided by, together with the other batches of a step."""
        ...

    @property
    def row_tokens(self) -> int:
        """Real tokens: no padding."""
        ...

    def to(self, device: torch.device) -> Any: ...


@dataclass(frozen=True)
class EncodedRows:
    """Every row in one of two lists: len(rows) + len(dropped) == rows_in."""

    rows: tuple[Any, ...]  # `TrainableRow`s of one recipe
    dropped: tuple[tuple[int, str], ...]  # (source line, reason)

    @property
    def rows_in(self) -> int:
        return len(self.rows) + len(self.dropped)

    @property
    def truncated(self) -> int:
        return sum(row.is_truncated for row in self.rows)

    @property
    def tokens(self) -> int:
        return sum(row.tokens for row in self.rows)

    @property
    def supervised_tokens(self) -> int:
        return sum(row.supervised_tokens for row in self.rows)

    @property
    def longest(self) -> int:
        return max((row.tokens for row in self.rows), default=0)


@dataclass(frozen=True)
class Beginning:
    """What a recipe has to say before the first step."""

    notes: tuple[str, ...] = ()
    suspect_labels: tuple[SuspectLabel, ...] = ()
    """The least confident first."""
    learning_curve: LearningCurve | None = None


@dataclass(frozen=True)
class Score:
    """A recipe's own figure for choosing a checkpoint; higher is better."""

    name: str
    value: float
    calibration: LabelCalibration | None = None
    """What the same rows say of a classifier's sureness."""


class Recipe(Protocol):
    """How one kind of task is trained and judged."""

    @property
    def vectors(self) -> Mapping[str, tuple[int, ...]]:
        """Trained tensors beside the low-rank ones, with their shapes: the head of a classifier."""
        ...

    def encode(self, rows: Sequence[Row], *, max_length: int, on_progress: Callable[[int], None]) -> EncodedRows:
        """Encode all rows; one that cannot be trained on is dropped with its reason.

        `on_progress(done)` is called after each row and may raise to stop.
        """
        ...

    def begin(
        self, adapter: AdapterWeights, rows: Sequence[Any], others: Sequence[Any], *, is_fresh: bool, poll: Poll
    ) -> Beginning:
        """Before the first step, with the run's starting weights in place: those of a checkpoint come after it.

        Makes what training needs of the whole data (a head's first weights, a reference model's probabilities) and
        returns what the job's owner should know of it. `rows` train, `others` only validate; `is_fresh` is False
        where the run continues an adapter or a checkpoint, and the head's weights come from there.
        """
        ...

    def pack(self, rows: Sequence[Any], token_budget: int) -> Sequence[Batch]:
        """Batches of at most `token_budget` tokens; a longer row stands alone."""
        ...

    def loss(self, batch: Any, adapter: AdapterWeights) -> BatchLoss:
        """Forward one batch (on the base's device) under the adapter, which is active."""
        ...

    def score(self, judged: Sequence[tuple[Sequence[Any], Tensor | None]]) -> Score | None:
        """The task's own figure from (rows of a batch, its outputs); None where the loss is the figure."""
        ...


def require_rows(encoded: EncodedRows, *, param: str) -> None:
    """Usage failure `no_trainable_rows` when nothing is left to train on."""
    if encoded.rows:
        return
    reasons = "; ".join(f"line {line}: {reason}" for line, reason in encoded.dropped[:3])
    raise usage(
        "no_trainable_rows",
        f"None of the {encoded.rows_in} rows can be trained on ({reasons or 'the file is empty'}).",
        param=param,
    )
