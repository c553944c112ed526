"""Training labels that look wrong, before the first step: confident learning on a cross-validated probe.

Northcutt et al. 2021, arXiv 1911.00068: a row is suspect where another label is at least as probable as it is on
average among the rows which bear it. The probabilities come from logistic regressions on the frozen base's features,
each row judged by one that has not seen it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from workers.engine.recipes.head import fit_probe, probe_logits

_FOLDS = 5
_LEAST_ROWS, _LEAST_ROWS_A_LABEL = 50, 5
_MOST_ROWS = 50_000


@dataclass(frozen=True)
class Suspect:
    """A row whose label another one fits better."""

    place: int
    likelier: int
    confidence: float
    """Probability of the label that the row bears."""


def find_suspects(features: Tensor, targets: Tensor, labels: int, *, poll: Callable[[], None]) -> list[Suspect]:
    """The least confident first; none where there are too few rows to tell, or so many that it would take minutes.

    features [n, hidden], targets [n].
    """
    n = len(targets)
    if not max(_LEAST_ROWS, _LEAST_ROWS_A_LABEL * labels) <= n <= _MOST_ROWS:
        return []
    probabilities = _cross_validated(features, targets, labels, poll=poll).softmax(1)
    own = probabilities.gather(1, targets[:, None]).squeeze(1)
    counts = torch.bincount(targets, minlength=labels)
    typical = torch.zeros(labels, device=own.device).scatter_add_(0, targets, own) / counts
    typical[counts == 0] = float("inf")
    likelier = probabilities.masked_fill(probabilities < typical, 0.0).max(1)
    is_suspect = (likelier.values > 0) & (likelier.indices != targets)
    found = [
        Suspect(place, int(likelier.indices[place]), float(own[place]))
        for place in is_suspect.nonzero().flatten().tolist()
    ]
    return sorted(found, key=lambda one: (one.confidence, one.place))


def _cross_validated(features: Tensor, targets: Tensor, labels: int, *, poll: Callable[[], None]) -> Tensor:
    """Logits [n, labels], each row's from a probe fitted to the other folds."""
    order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(0)).to(features.device)
    fold = torch.empty_like(order)
    fold[order] = torch.arange(len(targets), device=features.device) % _FOLDS
    logits = torch.zeros(len(targets), labels, device=features.device)
    for number in range(_FOLDS):
        poll()
        others = fold != number
        probe = fit_probe(features[others], targets[others], labels, poll=poll)
        logits[~others] = probe_logits(probe, features[~others])
    return logits
