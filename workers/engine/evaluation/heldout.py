"""What every evaluation is given: a base, held-out rows, and somebody to tell."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from app.contracts.rows import Row
from app.contracts.specs import EvalSpec
from workers.engine.base_model import ResidentBase
from workers.engine.evaluation.progress import EvaluationProgress
from workers.engine.recipes.recipe import EncodedRows
from workers.engine.training.lora import AdapterWeights

_CPU_TOKEN_BUDGET, _GPU_TOKEN_BUDGET = 2048, 16384


@dataclass(frozen=True)
class Heldout:
    """Held-out rows, encoded by the recipe (one of `recipes`) that trained the adapter."""

    resident: ResidentBase
    spec: EvalSpec
    recipe: Any
    rows: tuple[Row, ...]
    encoded: EncodedRows
    progress: EvaluationProgress
    against: AdapterWeights | None = None
    """An earlier version, which stands in the base's place."""

    @property
    def base_is(self) -> str | None:
        """What stands in the base's place; None where it is the base."""
        return None if self.spec.against is None else self.spec.against.id

    @property
    def token_budget(self) -> int:
        """Tokens of a forward pass."""
        default = _CPU_TOKEN_BUDGET if self.resident.device.type == "cpu" else _GPU_TOKEN_BUDGET
        return self.spec.token_budget or default

    @property
    def wanted(self) -> Sequence[Row]:
        """The rows behind `encoded.rows`, in their order."""
        by_line = {row.line: row for row in self.rows}
        return [by_line[row.line] for row in self.encoded.rows]
