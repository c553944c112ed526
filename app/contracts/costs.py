"""What mistakes cost, as a job's owner says it: a price for every confusion of two labels."""

from collections.abc import Sequence
from typing import Annotated, Self

from pydantic import Field, model_validator

from app.contracts.base import Contract

Price = Annotated[float, Field(strict=True, ge=0, le=1e9, allow_inf_nan=False)]
_Label = Annotated[str, Field(strict=True, min_length=1, max_length=512)]
_SHOWN_LABELS = 10


class PairCost(Contract):
    """What answering one label costs where another is right."""

    expected: _Label
    predicted: _Label
    cost: Price


class Costs(Contract):
    """Money lost by an answer; a right one costs nothing."""

    default: Price = Field(default=1.0, description="of every mistake that no pair names")
    pairs: tuple[PairCost, ...] = Field(default=(), max_length=10_000)
    abstain: Price | None = Field(
        default=None, description="of handing a case on instead of answering; null: every text is answered"
    )

    @model_validator(mode="after")
    def _is_of_use(self) -> Self:
        seen: set[tuple[str, str]] = set()
        for pair in self.pairs:
            if pair.expected == pair.predicted:
                raise ValueError(f"'{pair.expected}' answered where it is right costs nothing; leave that pair out")
            if (pair.expected, pair.predicted) in seen:
                raise ValueError(f"'{pair.predicted}' for '{pair.expected}' stands here twice; keep one of them")
            seen.add((pair.expected, pair.predicted))
        if self.default == 0 and not any(pair.cost for pair in self.pairs):
            raise ValueError("no mistake costs anything; give `default` or a pair a cost above 0")
        return self

    def problem(self, labels: Sequence[str]) -> str | None:
        """Why these costs are not those of a task with these labels, and how to mend it; None where they are."""
        named = {label: None for pair in self.pairs for label in (pair.expected, pair.predicted)}
        unknown = [f"'{label}'" for label in named if label not in labels]
        if not unknown:
            return None
        shown = ", ".join(labels[:_SHOWN_LABELS]) + (", …" if len(labels) > _SHOWN_LABELS else "")
        return (
            f"costs name {', '.join(unknown[:_SHOWN_LABELS])}, which no training row has as its label. "
            f"The labels are: {shown}. Write them as the rows do."
        )

    def rows(self, labels: Sequence[str]) -> list[list[float]]:
        """[expected][answered]; with `abstain` one more column. Raises ValueError as `problem` says."""
        problem = self.problem(labels)
        if problem is not None:
            raise ValueError(problem)
        prices = {(pair.expected, pair.predicted): pair.cost for pair in self.pairs}
        more = [] if self.abstain is None else [self.abstain]
        return [
            [0.0 if right == said else prices.get((right, said), self.default) for said in labels] + more
            for right in labels
        ]
