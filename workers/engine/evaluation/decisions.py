"""Answers of least expected cost, and what they cost beside the likeliest ones."""

from dataclasses import dataclass

import numpy as np

from app.contracts.costs import Costs
from app.contracts.figures import CostDecisions
from workers.engine.evaluation.calibration import softmax
from workers.engine.evaluation.statistics.metric import Floats, Metric
from workers.engine.evaluation.thresholds import CostMatrix, Labels, cheapest, cost_per_1000

COST = "cost_per_1000_decisions"


@dataclass(frozen=True)
class Priced:
    """What one model's decisions cost."""

    metric: Metric
    decisions: CostDecisions


def price(logits: Floats, truth: Labels, temperature: float, labels: tuple[str, ...], costs: Costs) -> Priced:
    """Of logits [n, C] and truth [n] of held-out rows, decided by probabilities that other rows calibrated.

    The answer of least expected cost by the true probabilities is the best there is (Elkan 2001), so calibrated ones
    need no threshold tuned beside them. Raises ValueError for costs of other labels.
    """
    matrix = CostMatrix(labels, np.array(costs.rows(labels)))
    probabilities = softmax(logits, temperature)
    decided, likeliest = cheapest(probabilities, matrix), probabilities.argmax(1)
    has_abstention = matrix.costs.shape[1] > len(labels)
    return Priced(
        metric=cost_per_1000(truth, decided, matrix),
        decisions=CostDecisions(
            changed=float((decided != likeliest).mean()),
            abstained=float((decided == len(labels)).mean()) if has_abstention else None,
            likeliest_per_1000=cost_per_1000(truth, likeliest, matrix).value,
        ),
    )
