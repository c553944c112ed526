"""A classifier's head: a linear layer in fp32 over pooled or single hidden states, begun from a linear probe.

The probe is a logistic regression on the frozen base's features. It is the head's first weights (linear probing, then
fine-tuning: Kumar et al. 2022, arXiv 2202.10054), and stays beside the adapter as the measure of what tuning gained.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, linear

from workers.engine.training.lora import AdapterWeights

WEIGHT, BIAS = "head.weight", "head.bias"
_PROBE_ROUNDS = 100
# Ridge on the standardised features; the one with the least loss on every fifth row is taken.
_PENALTIES = (1.0, 10.0, 100.0, 1000.0)
_ROUNDS_TO_CHOOSE = 40
_CHOOSING = 5
_POLL_EVERY = 10


class Probe(NamedTuple):
    """A linear layer over the frozen base's features: weight [labels, hidden] and bias [labels], fp32."""

    weight: Tensor
    bias: Tensor


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
def start_head(adapter: AdapterWeights, probe: Probe) -> None:
    """Give the head the probe's weights, and keep the probe."""
    adapter.vectors[WEIGHT].copy_(probe.weight)
    adapter.vectors[BIAS].copy_(probe.bias)
    adapter.probe = probe


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

    The penalty is chosen on rows set apart for it: too small a one would learn the training rows by heart and leave
    nothing for the adapter to learn. Equal data give equal weights.
    """
    features = features.float()
    centre = features.mean(0)
    scale = (features - centre).square().mean().sqrt().clamp_min(1e-6)
    inputs = (features - centre) / scale
    is_apart = torch.arange(len(inputs), device=inputs.device) % _CHOOSING == _CHOOSING - 1

    def loss_apart(penalty: float) -> float:
        rest = ~is_apart
        probe = _minimise(inputs[rest], targets[rest], labels, penalty, _ROUNDS_TO_CHOOSE, poll=poll, is_multi=is_multi)
        logits = probe_logits(probe, inputs[is_apart])
        return float(class_losses(logits, targets[is_apart], is_multi=is_multi).mean())

    penalty = min(_PENALTIES, key=loss_apart) if len(inputs) >= _CHOOSING else _PENALTIES[-1]
    probe = _minimise(inputs, targets, labels, penalty, _PROBE_ROUNDS, poll=poll, is_multi=is_multi)
    # For the features as they came.
    unscaled = probe.weight / scale
    return Probe(unscaled, probe.bias - unscaled @ centre)


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
