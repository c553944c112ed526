"""A classifier's head: a linear layer in fp32 over pooled or single hidden states, begun from a linear probe.

The probe is a logistic regression on the frozen base's features; it stays beside the adapter as the measure of what
tuning gained. A softer one is the head's first weights (linear probing, then fine-tuning: Kumar et al. 2022, arXiv
2202.10054).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, linear

from workers.engine.training.lora import AdapterWeights

WEIGHT, BIAS = "head.weight", "head.bias"
_PROBE_ROUNDS = 100
# Ridge on the standardised features.
_PENALTIES = (1.0, 10.0, 100.0, 1000.0)
_SOFTER = 10.0
_ROUNDS_TO_CHOOSE = 40
_CHOOSING = 5
_POLL_EVERY = 10


class Probe(NamedTuple):
    """A linear layer over the frozen base's features: weight [labels, hidden] and bias [labels], fp32."""

    weight: Tensor
    bias: Tensor


class Fitted(NamedTuple):
    """What a frozen base's features give: the measure of tuning, and where tuning begins."""

    probe: Probe
    start: Probe


def head_vectors(labels: int, hidden: int) -> Mapping[str, tuple[int, ...]]:
    """The trained tensors of a head."""
    return {WEIGHT: (labels, hidden), BIAS: (labels,)}


def head_logits(adapter: AdapterWeights, features: Tensor) -> Tensor:
    """fp32 [n, labels] of features [n, hidden]."""
    return linear(features.float(), adapter.vectors[WEIGHT], adapter.vectors[BIAS])


def probe_logits(probe: Probe, features: Tensor) -> Tensor:
    """fp32 [n, labels] of the frozen base's features [n, hidden]."""
    return linear(features.float(), probe.weight, probe.bias)


@torch.no_grad()
def start_head(adapter: AdapterWeights, fitted: Fitted) -> None:
    """Give the head its first weights, and keep the probe."""
    adapter.vectors[WEIGHT].copy_(fitted.start.weight)
    adapter.vectors[BIAS].copy_(fitted.start.bias)
    adapter.probe = fitted.probe


def pool(hidden: Tensor, lengths: Sequence[int], how: Literal["mean", "last"]) -> Tensor:
    """One vector a row, [rows, hidden] fp32, of packed hidden states [T, hidden]."""
    ends = torch.tensor(lengths, device=hidden.device).cumsum(0)
    if how == "last":
        return hidden.index_select(0, ends - 1).float()
    # A product instead of scattered sums: deterministic on every device.
    place = torch.arange(hidden.shape[0], device=hidden.device)
    starts = ends - torch.tensor(lengths, device=hidden.device)
    is_in_row = (place >= starts[:, None]) & (place < ends[:, None])
    weights = is_in_row.float() / torch.tensor(lengths, device=hidden.device)[:, None]
    return weights @ hidden.float()


def fit_probe(
    features: Tensor, targets: Tensor, labels: int, *, poll: Callable[[], None] = lambda: None, is_multi: bool = False
) -> Probe:
    """Logistic regression with a ridge penalty: features [n, hidden], targets [n] or (multi-label) [n, labels].

    The penalty is chosen on rows set apart for it. Equal data give equal weights.
    """
    problem = _Problem(features, targets, labels, is_multi, poll)
    return problem.solve(problem.best_penalty())


def fit_head(
    features: Tensor, targets: Tensor, labels: int, *, poll: Callable[[], None] = lambda: None, is_multi: bool = False
) -> Fitted:
    """The probe, and a head's first weights, under ten times its penalty. As `fit_probe`.

    A head that begins from the probe itself knows the training rows by heart, and nothing is left that would move the
    adapter. Measured on 770 rows of 77 intents: 86.6 % from the softer start, 85.5 % from the probe, the probe 85.1 %.
    """
    problem = _Problem(features, targets, labels, is_multi, poll)
    penalty = problem.best_penalty()
    return Fitted(problem.solve(penalty), problem.solve(_SOFTER * penalty))


class _Problem:
    """Standardised features and what they are to give."""

    def __init__(
        self,
        features: Tensor,
        targets: Tensor,
        labels: int,
        is_multi: bool,  # noqa: FBT001 this module alone makes one
        poll: Callable[[], None],
    ) -> None:
        features = features.float()
        self._centre = features.mean(0)
        self._scale = (features - self._centre).square().mean().sqrt().clamp_min(1e-6)
        self._inputs = (features - self._centre) / self._scale
        self._targets, self._labels, self._is_multi, self._poll = targets, labels, is_multi, poll

    def best_penalty(self) -> float:
        """The one with the least loss on every fifth row, which it has not seen."""
        is_apart = torch.arange(len(self._inputs), device=self._inputs.device) % _CHOOSING == _CHOOSING - 1

        def loss_apart(penalty: float) -> float:
            probe = self._minimise(penalty, _ROUNDS_TO_CHOOSE, ~is_apart)
            logits = probe_logits(probe, self._inputs[is_apart])
            return float(class_losses(logits, self._targets[is_apart], is_multi=self._is_multi).mean())

        return min(_PENALTIES, key=loss_apart) if len(self._inputs) >= _CHOOSING else _PENALTIES[-1]

    def solve(self, penalty: float) -> Probe:
        """From all rows, for the features as they came."""
        probe = self._minimise(penalty, _PROBE_ROUNDS, torch.ones(len(self._inputs), dtype=torch.bool))
        unscaled = probe.weight / self._scale
        return Probe(unscaled, probe.bias - unscaled @ self._centre)

    def _minimise(self, penalty: float, rounds: int, rows: Tensor) -> Probe:
        inputs, targets = self._inputs[rows], self._targets[rows]
        return _minimise(inputs, targets, self._labels, penalty, rounds, poll=self._poll, is_multi=self._is_multi)


def _minimise(
    inputs: Tensor,
    targets: Tensor,
    labels: int,
    penalty: float,
    rounds: int,
    *,
    poll: Callable[[], None],
    is_multi: bool,
) -> Probe:
    """Summed loss + penalty / 2 * |weight|^2, brought down by L-BFGS from zero."""
    weight = torch.zeros(labels, inputs.shape[1], device=inputs.device, requires_grad=True)
    bias = torch.zeros(labels, device=inputs.device, requires_grad=True)
    solver = torch.optim.LBFGS(
        [weight, bias], max_iter=rounds, history_size=10, line_search_fn="strong_wolfe", tolerance_change=1e-7
    )
    calls = 0

    def evaluate() -> Tensor:
        nonlocal calls
        calls += 1
        if calls % _POLL_EVERY == 0:
            poll()
        solver.zero_grad()
        loss = class_losses(linear(inputs, weight, bias), targets, is_multi=is_multi).sum()
        total = (loss + penalty / 2 * weight.square().sum()) / len(inputs)
        torch.autograd.backward(total)
        return total

    with torch.enable_grad():
        solver.step(evaluate)  # type: ignore[no-untyped-call]
    return Probe(weight.detach(), bias.detach())


def class_losses(logits: Tensor, targets: Tensor, *, is_multi: bool) -> Tensor:
    """Loss of each row in nats, [n]: cross-entropy, or the mean binary cross-entropy over the labels."""
    if is_multi:
        return binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(1)
    return cross_entropy(logits, targets, reduction="none")
