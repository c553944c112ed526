"""What a run trains on a resident base: its weights in one flat fp32 buffer, their gradient, and compute copies."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from app.contracts.specs import AdapterTask, LoraSpec

_PEFT_PREFIX = "base_model.model."


@dataclass(frozen=True)
class LinearShape:
    """Size of one wrapped linear layer."""

    in_features: int
    out_features: int


class AdapterWeights(ABC):
    """The trained weights of one run, as the loop, the seats and the recipes know them.

    `flat` holds all of them, fp32; optimiser, clipping and checkpoints see it alone. `vectors` are trained tensors
    beside those of the method: leaves that share the buffer's memory and gradient, such as the head of a classifier.
    """

    def __init__(self, count: int, vectors: Mapping[str, tuple[int, ...]], *, device: torch.device) -> None:
        """Zeros: `count` values that the method lays out, and behind them the vectors."""
        total = count + sum(math.prod(size) for size in vectors.values())
        self.flat = nn.Parameter(torch.zeros(total, dtype=torch.float32, device=device))
        self.flat.grad = torch.zeros_like(self.flat)
        self.vectors = self._leaves(count, vectors)
        self.task: AdapterTask | None = None
        self.probe: tuple[Tensor, Tensor] | None = None  # weight and bias a classifier's head began from

    def _leaves(self, offset: int, sizes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
        """Leaves of autograd from `flat[offset]` on; what it adds to their gradients stands in `flat.grad`."""
        leaves: dict[str, Tensor] = {}
        for name, size in sizes.items():
            end = offset + math.prod(size)
            leaf = self.flat.detach()[offset:end].view(size).requires_grad_(True)
            leaf.grad = self.gradient[offset:end].view(size)
            leaves[name] = leaf
            offset = end
        return leaves

    @property
    def parameter_count(self) -> int:
        return self.flat.numel()

    @property
    @abstractmethod
    def trained_layers(self) -> tuple[str, ...]:
        """Names of what is trained, as the job's owner reads them."""

    @property
    @abstractmethod
    def has_moved(self) -> bool:
        """Whether training has changed what the base computes."""

    @abstractmethod
    def refresh(self) -> None:
        """Cast the fp32 masters to the compute copies: once after each change of the weights."""

    @abstractmethod
    def masters(self) -> dict[str, Tensor]:
        """Name in the saved file → where a weight is written to, before `refresh`; the vectors apart."""

    def tensors(self) -> dict[str, Tensor]:
        """Name in the saved file → what is saved; the vectors apart."""
        return self.masters()

    def in_place(self) -> AbstractContextManager[None]:
        """Within: the base's own weights are these, where the method replaces them."""
        return nullcontext()

    def forget_gradients(self) -> None:
        """Give back the memory that only training needs."""
        self.flat.grad = None
        for leaf in self.vectors.values():
            leaf.grad = None

    @property
    def gradient(self) -> Tensor:
        """Sum of the gradients since `zero_grad`, fp32, laid out as `flat`."""
        return cast("Tensor", self.flat.grad)

    def zero_grad(self) -> None:
        self.gradient.zero_()


class LowRankWeights(AdapterWeights):
    """A and B of every adapted layer, and with DoRA the magnitude of its rows.

    `A[name]` is [r, in] and `B[name]` [out, r], fp32 views of `flat`; `grad_a`/`grad_b` are views of
    `flat.grad`. The forward pass reads the copies in the base's dtype, made by `refresh`.
    """

    def __init__(
        self,
        shapes: dict[str, LinearShape],
        spec: LoraSpec,
        *,
        device: torch.device,
        compute_dtype: torch.dtype,
        vectors: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:
        self.shapes = shapes
        self.variant = spec.variant
        self.rank = rank = spec.rank
        self.alpha = spec.alpha
        self.dropout = spec.dropout
        self.scaling = spec.alpha / (math.sqrt(rank) if spec.variant == "rslora" else rank)
        count = sum(rank * (shape.in_features + shape.out_features) for shape in shapes.values())
        rows = {name: (shape.out_features,) for name, shape in shapes.items()} if spec.variant == "dora" else {}
        super().__init__(count + sum(size for (size,) in rows.values()), vectors or {}, device=device)
        self.magnitudes = self._leaves(count, rows)  # [out] fp32 each; empty without DoRA
        self.row_lengths: dict[str, Tensor] = {}  # of W + s B A, until the next `refresh`
        self._compute = torch.zeros(count, dtype=compute_dtype, device=device)
        self.A, self.B = self._views(self.flat.detach())
        self.grad_a, self.grad_b = self._views(self.gradient)
        self.compute_a, self.compute_b = self._views(self._compute)
        # Leaves that make autograd visit our node; their gradients go straight to `flat.grad`.
        for view in (*self.compute_a.values(), *self.compute_b.values()):
            view.requires_grad_(True)

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
    def trained_layers(self) -> tuple[str, ...]:
        return tuple(sorted({name.rsplit(".", 1)[-1] for name in self.shapes}))

    @property
    def has_moved(self) -> bool:
        return any(bool(b.any()) for b in self.B.values())

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
        self._compute.copy_(self.flat[: self._compute.numel()])
        self.row_lengths.clear()

    def masters(self) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for name in self.shapes:
            found[f"{_PEFT_PREFIX}{name}.lora_A.weight"] = self.A[name]
            found[f"{_PEFT_PREFIX}{name}.lora_B.weight"] = self.B[name]
        for name, magnitude in self.magnitudes.items():
            found[f"{_PEFT_PREFIX}{name}.lora_magnitude_vector"] = magnitude
        return found

    def forget_gradients(self) -> None:
        super().forget_gradients()
        self.grad_a.clear()
        self.grad_b.clear()
        for leaf in self.magnitudes.values():
            leaf.grad = None
