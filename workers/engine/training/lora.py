"""Low-rank adapters over frozen linear layers: many adapters on one resident base.

`wrap_linears` replaces every linear layer but the head once; from then on `activate` says
which adapter works on which tokens. y = W x + (alpha / r) B A x (Hu et al. 2021, arXiv 2106.09685).
"""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from app.contracts.errors import usage
from app.contracts.specs import AdapterTask, LoraSpec


@dataclass(frozen=True)
class LinearShape:
    """Size of one wrapped linear layer."""

    in_features: int
    out_features: int


class AdapterWeights:
    """A and B of every adapted layer in one flat fp32 buffer, with its gradient and compute copies.

    `A[name]` is [r, in] and `B[name]` [out, r], fp32 views of `flat`; `grad_a`/`grad_b` are views of
    `flat.grad`. The forward pass reads the copies in the base's dtype, made by `refresh`. `vectors` are further
    trained tensors, fp32 leaves that share the buffer's memory and gradient: the head of a classifier.
    """

    def __init__(
        self,
        shapes: dict[str, LinearShape],
        *,
        rank: int,
        alpha: float,
        dropout: float,
        device: torch.device,
        compute_dtype: torch.dtype,
        vectors: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:
        self.shapes = shapes
        self.rank = rank
        self.alpha = alpha
        self.dropout = dropout
        self.scaling = alpha / rank
        wanted = dict(vectors or {})
        count = sum(rank * (shape.in_features + shape.out_features) for shape in shapes.values())
        total = count + sum(math.prod(size) for size in wanted.values())
        self.flat = nn.Parameter(torch.zeros(total, dtype=torch.float32, device=device))
        self.flat.grad = torch.zeros_like(self.flat)
        self._compute = torch.zeros(count, dtype=compute_dtype, device=device)
        self.A, self.B = self._views(self.flat.detach())
        self.grad_a, self.grad_b = self._views(self.flat.grad)
        self.compute_a, self.compute_b = self._views(self._compute)
        # Leaves that make autograd visit our node; their gradients go straight to `flat.grad`.
        for view in (*self.compute_a.values(), *self.compute_b.values()):
            view.requires_grad_(True)
        self.task: AdapterTask | None = None
        self.probe: tuple[Tensor, Tensor] | None = None  # weight and bias a classifier's head began from
        self.vectors: dict[str, Tensor] = {}
        for name, size in wanted.items():
            end = count + math.prod(size)
            leaf = self.flat.detach()[count:end].view(size).requires_grad_(True)
            leaf.grad = self.flat.grad[count:end].view(size)
            self.vectors[name] = leaf
            count = end

    def _views(self, flat: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        a: dict[str, Tensor] = {}
        b: dict[str, Tensor] = {}
        offset = 0
        for name, shape in self.shapes.items():
            size = self.rank * shape.in_features
            a[name] = flat[offset : offset + size].view(self.rank, shape.in_features)
            offset += size
            size = self.rank * shape.out_features
            b[name] = flat[offset : offset + size].view(shape.out_features, self.rank)
            offset += size
        return a, b

    @property
    def parameter_count(self) -> int:
        return self.flat.numel()

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """Kaiming-uniform A (as PEFT: bound 1/sqrt(in)), zero B. `generator` lives on the CPU."""
        for name, shape in self.shapes.items():
            bound = 1 / math.sqrt(shape.in_features)
            draw = torch.rand(self.rank, shape.in_features, generator=generator)
            self.A[name].copy_((draw * 2 - 1) * bound)
            self.B[name].zero_()
        self.refresh()

    @torch.no_grad()
    def refresh(self) -> None:
        """Cast the fp32 masters to the compute copies: once after each change of the weights."""
        self._compute.copy_(self.flat[: self._compute.numel()])

    def forget_gradients(self) -> None:
        """Give back the memory that only training needs."""
        self.flat.grad = None
        self.grad_a.clear()
        self.grad_b.clear()
        for leaf in self.vectors.values():
            leaf.grad = None

    @property
    def gradient(self) -> Tensor:
        """Sum of the gradients since `zero_grad`, fp32, laid out as `flat`."""
        return cast("Tensor", self.flat.grad)

    def zero_grad(self) -> None:
        self.gradient.zero_()


@dataclass(frozen=True)
class Segment:
    """Tokens [start, end) of the flattened batch belong to `adapter`; None = base alone."""

    adapter: AdapterWeights | None
    start: int
    end: int


@dataclass
class ActiveAdapters:
    """Shared by all layers of a resident base: who is active now."""

    whole: AdapterWeights | None = None
    segments: tuple[Segment, ...] | None = None
    dropout_key: tuple[int, ...] | None = field(default=None)


class _LoraLinear(torch.autograd.Function):
    """y = x W^T + b + s * dropout(x) A^T B^T on the tokens of one adapter, as one autograd node.

    x [T, in], W [out, in], A [r, in], B [out, r]. Gradients of A and B are summed into the fp32
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
        adapter: AdapterWeights,
        name: str,
        keep: Tensor | None,
    ) -> Tensor:
        y = linear(x, weight, bias)
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
        adapter: AdapterWeights = ctx.adapter
        scaling = adapter.scaling
        grad_down = grad_y @ b
        dropped = x if keep is None else x * keep
        adapter.grad_b[ctx.name].add_(grad_y.t() @ down, alpha=scaling)
        adapter.grad_a[ctx.name].add_(grad_down.t() @ dropped, alpha=scaling)
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = grad_y @ weight
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

    def forward(self, x: Tensor) -> Tensor:
        """Apply to x [..., in], giving [..., out]."""
        active = self.active
        if active.segments is not None:
            flat = x.reshape(-1, self.in_features)
            parts = [self._one(flat[s.start : s.end], s.adapter, s.start) for s in active.segments]
            return torch.cat(parts).view(*x.shape[:-1], self.out_features)
        if active.whole is None or self.name not in active.whole.shapes:
            return linear(x, self.base.weight, self.base.bias)
        y = self._one(x.reshape(-1, self.in_features), active.whole, 0)
        return y.view(*x.shape[:-1], self.out_features)

    def _one(self, x: Tensor, adapter: AdapterWeights | None, start: int) -> Tensor:
        """Apply with one adapter to x [T, in], giving [T, out]."""
        weight, bias = self.base.weight, self.base.bias
        if adapter is None or self.name not in adapter.shapes:
            return linear(x, weight, bias)
        a, b = adapter.compute_a[self.name], adapter.compute_b[self.name]
        if not torch.is_grad_enabled():
            y = linear(x, weight, bias)
            return y.addmm_(linear(x, a), b.t(), alpha=adapter.scaling)
        keep = self._keep_mask(x, adapter.dropout, start)
        y = _LoraLinear.apply(x, weight, bias, a, b, adapter, self.name, keep)  # type: ignore[no-untyped-call]
        return cast("Tensor", y)

    def _keep_mask(self, x: Tensor, dropout: float, start: int) -> Tensor | None:
        """Dropout mask scaled by 1/(1-p), a pure function of (dropout key, layer, start): resume is exact."""
        key = self.active.dropout_key
        if dropout == 0.0 or key is None:
            return None
        digest = hashlib.blake2b(repr((*key, self.index, start)).encode(), digest_size=8).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest) >> 1)
        keep = torch.empty(x.shape, dtype=torch.float32).bernoulli_(1 - dropout, generator=generator)
        return keep.div_(1 - dropout).to(device=x.device, dtype=x.dtype)


@dataclass
class AdaptedLinears:
    """The wrapped layers of a resident base and the switch they share."""

    layers: dict[str, SeatLinear]
    active: ActiveAdapters

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

    def new_adapter(self, spec: LoraSpec, vectors: Mapping[str, tuple[int, ...]] | None = None) -> AdapterWeights:
        """An adapter of zeros for this base; call `initialise` or load weights into it."""
        weight = next(iter(self.layers.values())).weight
        return AdapterWeights(
            self.shapes(spec.targets),
            rank=spec.rank,
            alpha=spec.alpha,
            dropout=spec.dropout,
            device=weight.device,
            compute_dtype=weight.dtype,
            vectors=vectors,
        )


def wrap_linears(model: nn.Module, head: nn.Module | None) -> AdaptedLinears:
    """Replace every nn.Linear of `model` but `head` by a `SeatLinear`; once per model."""
    active = ActiveAdapters()
    layers: dict[str, SeatLinear] = {}
    found = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Linear) and m is not head]
    for index, (name, layer) in enumerate(found):
        parent_name, _, attribute = name.rpartition(".")
        layers[name] = SeatLinear(layer, name, index, active)
        setattr(model.get_submodule(parent_name), attribute, layers[name])
    return AdaptedLinears(layers, active)


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
        active.whole, active.segments = adapters, None
    else:
        active.whole, active.segments = None, tuple(Segment(*item) for item in adapters)
    active.dropout_key = dropout_key
    try:
        yield
    finally:
        active.whole, active.segments, active.dropout_key = before
