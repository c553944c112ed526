"""What passes between the run's service and the worker that scores it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.chat.model_to_ask import ModelToAsk
from app.evals.graders.specs import (
    LabelModelGrader,
    PythonCriterion,
    ScoreModelCriterion,
    StringCheckGrader,
    TextSimilarityCriterion,
)
from app.evals.schemas import CompletionsSource, JsonlSource, ResponsesSource
from app.evals.tally import Outcome, TokensUsed

AnyCriterion = StringCheckGrader | TextSimilarityCriterion | ScoreModelCriterion | LabelModelGrader | PythonCriterion
AnySource = JsonlSource | CompletionsSource | ResponsesSource


@dataclass(frozen=True)
class StoredBytes:
    """Where a file's bytes lie."""

    file_id: str
    artifact_key: str


@dataclass(frozen=True)
class RunTask:
    """A claimed run: everything needed to lay out its items and to score them."""

    run_id: str
    fence: int
    team_id: str
    criteria: tuple[AnyCriterion, ...]
    data_source: AnySource
    item_schema: Mapping[str, Any] | None
    stored_metadata: Mapping[str, str]
    """Pairs that stored completions must have by the eval's own configuration."""
    file: StoredBytes | None
    is_laid_out: bool
    models: Mapping[str, ModelToAsk]
    """Those that are sampled or that grade, by name."""


@dataclass(frozen=True)
class NewItem:
    """A row of the data as it is laid out; `fault` says why it is no item."""

    position: int
    item: dict[str, Any]
    given: dict[str, Any] | None = None
    fault: str | None = None


@dataclass(frozen=True)
class PendingItem:
    """An item that waits to be scored."""

    id: str
    position: int
    item: dict[str, Any]
    given: dict[str, Any] | None
    fault: str | None


@dataclass(frozen=True)
class ScoredItem:
    """An item done: `sample` and `results` as on the wire."""

    id: str
    outcome: Outcome
    sample: dict[str, Any]
    results: Sequence[dict[str, Any]]
    by_criterion: tuple[Outcome, ...]
    usage: tuple[TokensUsed, ...]
