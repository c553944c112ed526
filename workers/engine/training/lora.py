"""Low-rank adapters over frozen linear layers: many adapters on one resident base.

`wrap_linears` replaces every linear layer but the head once; from then on `activate` says
which adapter works on which tokens. y = W x + s B A x, s = alpha / r (Hu et al. 2021, arXiv 2106.09685) or, for rsLoRA,
alpha / sqrt(r) (Kalajdzievski 2023, arXiv 2312.03732); for DoRA see `dora`.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from app.contracts.errors import usage
from app.contracts.specs import LoraSpec
from workers.engine.training.adapter_weights import AdapterWeights, LinearShape, LowRankWeights
from workers.engine.training.dora import gains, squared_row_lengths
from workers.engine.training.quantised import dense_dtype, dense_weight

__all__ = ["AdaptedLinears", "AdapterWeights", "LowRankWeights", "SeatLinear", "activate", "wrap_linears"]


@dataclass(frozen=True)
class Segment:
    """Tokens [start, end) of the flattened batch belong to `adapter`; None = base alone."""

    adapter: LowRankWeights | None
    start: int
    end: int


@dataclass
class ActiveAdapters:
    """Shared by all layers of a resident base: who is active now."""

    whole: LowRankWeights | None = None
    segments: tuple[Segment, ...] | None = None
    dropout_key: tuple[int, ...] | None = field(default=None)


class _LoraLinear(torch.autograd.Function):
    """y = x W^T + b + s * dropout(x) A^T B^T on the tokens of one adapter, as one autograd node.

    x [T, in], W [out, in] (dense or in 4 bits), A [r, in], B [out, r]. Gradients of A and B are summed into the fp32
    buffers `grad_a`, `grad_b`; W and b are frozen.
    """

    @staticmethod
    def forward(  # noqa: PLR0917 autograd passes its inputs by position
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        a: Tensor,
        b: Tensor,
        adapter: LowRankWeights,
        name: str,
        keep: Tensor | None,
    ) -> Tensor:
        y = linear(x, dense_weight(weight), bias)
        dropped = x if keep is None else x * keep
        down = linear(dropped, a)
        y.addmm_(down, b.t(), alpha=adapter.scaling)
        ctx.save_for_backward(x, down, weight, a, b, keep)
        ctx.adapter, ctx.name = adapter, name
        return y

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        (grad_y,) = grad_outputs
        x, down, weight, a, b, keep = ctx.saved_tensors
        adapter: LowRankWeights = ctx.adapter
        scaling = adapter.scaling
        grad_down = grad_y @ b
        dropped = x if keep is None else x * keep
        adapter.grad_b[ctx.name].add_(grad_y.t() @ down, alpha=scaling)
        adapter.grad_a[ctx.name].add_(grad_down.t() @ dropped, alpha=scaling)
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = grad_y @ dense_weight(weight)
            if keep is None:
                grad_x.addmm_(grad_down, a, alpha=scaling)
            else:
                grad_x.addcmul_(grad_down @ a, keep, value=scaling)
        return grad_x, None, None, None, None, None, None, None


class SeatLinear(nn.Module):
    """A frozen linear layer on which any number of adapters can sit."""

    def __init__(self, base: nn.Linear, name: str, index: int, active: ActiveAdapters) -> None:
        super().__init__()
        self.base = base
        self.name = name
        self.index = index
        self.active = active
        self.in_features = base.in_features
        self.out_features = base.out_features

    @property
    def weight(self) -> Tensor:
        return self.base.weight

    @property
    def dense_weight(self) -> Tensor:
        return dense_weight(self.base.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Apply to x [..., in], giving [..., out]."""
        active = self.active
        if active.segments is not None:
            flat = x.reshape(-1, self.in_features)
            parts = [self._one(flat[s.start : s.end], s.adapter, s.start) for s in active.segments]
            return torch.cat(parts).view(*x.shape[:-1], self.out_features)
        if active.whole is None or self.name not in active.whole.shapes:
            return linear(x, self.dense_weight, self.base.bias)
        y = self._one(x.reshape(-1, self.in_features), active.whole, 0)
        return y.view(*x.shape[:-1], self.out_features)

    def _one(self, x: Tensor, adapter: LowRankWeights | None, start: int) -> Tensor:
        """Apply with one adapter to x [T, in], giving [T, out]."""
        weight, bias = self.base.weight, self.base.bias
        if adapter is None or self.name not in adapter.shapes:
            return linear(x, dense_weight(weight), bias)
        a, b = adapter.compute_a[self.name], adapter.compute_b[self.name]
        has_gains = bool(adapter.magnitudes)
        if not torch.is_grad_enabled():
            y = linear(x, dense_weight(weight), None if has_gains else bias)
            y.addmm_(linear(x, a), b.t(), alpha=adapter.scaling)
            return self._with_gains(y, adapter, bias) if has_gains else y
        keep = self._keep_mask(x, adapter.dropout, start)
        if has_gains:
            dropped = x if keep is None else x * keep
            y = _LoraLinear.apply(dropped, weight, None, a, b, adapter, self.name, None)  # type: ignore[no-untyped-call]
            rest = (
                bias if keep is None else linear(x - dropped, dense_weight(weight), bias)
            )  # as PEFT: W x is of the whole x
            return self._with_gains(y, adapter, rest)
        y = _LoraLinear.apply(x, weight, bias, a, b, adapter, self.name, keep)  # type: ignore[no-untyped-call]
        return cast("Tensor", y)

    def _with_gains(self, y: Tensor, adapter: LowRankWeights, rest: Tensor | None) -> Tensor:
        """DoRA's g * y + rest of y [T, out]."""
        gain = gains(adapter, self.name, self.base.weight, self.squared_row_lengths).to(y.dtype)
        return y * gain if rest is None else torch.addcmul(rest, y, gain)

    @cached_property
    def squared_row_lengths(self) -> Tensor:
        """Of the frozen weight, [out] fp32."""
        with torch.inference_mode(False):
            return squared_row_lengths(self.dense_weight)

    def _keep_mask(self, x: Tensor, dropout: float, start: int) -> Tensor | None:
        """Dropout mask scaled by 1/(1-p), a pure function of (dropout key, layer, start) on a kind of device."""
        key = self.active.dropout_key
        if dropout == 0.0 or key is None:
            return None
        digest = hashlib.blake2b(repr((*key, self.index, start)).encode(), digest_size=8).digest()
        # Drawn where it is used: a GPU draws a layer's mask in less time than one from the host would travel.
        generator = torch.Generator(device=x.device).manual_seed(int.from_bytes(digest) >> 1)
        keep = torch.empty(x.shape, dtype=torch.float32, device=x.device).bernoulli_(1 - dropout, generator=generator)
        return keep.div_(1 - dropout).to(x.dtype)


@dataclass
class AdaptedLinears:
    """The wrapped layers of a resident base, the switch they share, and the model they are part of."""

    layers: dict[str, SeatLinear]
    active: ActiveAdapters
    model: nn.Module = field(repr=False)

    def shapes(self, targets: str | Sequence[str] = "all-linear") -> dict[str, LinearShape]:
        """Sizes of the layers an adapter with these targets has; usage failure for an unknown target."""
        shapes = {name: LinearShape(s.in_features, s.out_features) for name, s in self.layers.items()}
        if isinstance(targets, str):
            return shapes
        known = {name.rsplit(".", 1)[-1] for name in shapes}
        unknown = sorted(set(targets) - known)
        if unknown or not targets:
            raise usage(
                "unknown_lora_target",
                f"The base has no linear layers named {', '.join(unknown) or '(none given)'}; "
                f"it has {', '.join(sorted(known))}. Name some of these or use 'all-linear'.",
                param="lora.targets",
            )
        return {name: shape for name, shape in shapes.items() if name.rsplit(".", 1)[-1] in targets}

    def new_adapter(self, spec: LoraSpec, vectors: Mapping[str, tuple[int, ...]] | None = None) -> LowRankWeights:
        """An adapter of zeros for this base; call `initialise` or load weights into it."""
        weight = next(iter(self.layers.values())).weight
        adapter = LowRankWeights(
            self.shapes(spec.targets), spec, device=weight.device, compute_dtype=dense_dtype(weight), vectors=vectors
        )
        with torch.no_grad():
            for name, magnitude in adapter.magnitudes.items():
                magnitude.copy_(self.layers[name].squared_row_lengths.sqrt())
        return adapter


def wrap_linears(model: nn.Module, head: nn.Module | None) -> AdaptedLinears:
    """Replace every nn.Linear of `model` but `head` by a `SeatLinear`; once per model."""
    active = ActiveAdapters()
    layers: dict[str, SeatLinear] = {}
    found = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Linear) and m is not head]
    for index, (name, layer) in enumerate(found):
        parent_name, _, attribute = name.rpartition(".")
        layers[name] = SeatLinear(layer, name, index, active)
        setattr(model.get_submodule(parent_name), attribute, layers[name])
    return AdaptedLinears(layers, active, model)


@contextmanager
def activate(
    linears: AdaptedLinears,
    adapters: AdapterWeights | Sequence[tuple[AdapterWeights | None, int, int]] | None,
    *,
    dropout_key: tuple[int, ...] | None = None,
) -> Iterator[None]:
    """Within: one adapter for the whole batch, none (base alone), or one for each token range.

    Ranges are (adapter, start, end) over the flattened token axis and must cover it in order.
    `dropout_key` switches the adapters' dropout on and names its random stream.
    """
    active = linears.active
    before = (active.whole, active.segments, active.dropout_key)
    if adapters is None or isinstance(adapters, AdapterWeights):
        active.whole, active.segments = adapters if isinstance(adapters, LowRankWeights) else None, None
    else:
        active.whole, active.segments = None, tuple(_segment(*item) for item in adapters)
    active.dropout_key = dropout_key
    try:
        with adapters.in_place() if isinstance(adapters, AdapterWeights) else nullcontext():
            yield
    finally:
        active.whole, active.segments, active.dropout_key = before


def _segment(adapter: AdapterWeights | None, start: int, end: int) -> Segment:
    if adapter is not None and not isinstance(adapter, LowRankWeights):
        raise TypeError("weights that take the place of the base's cannot share a batch with other models")
    return Segment(adapter, start, end)
