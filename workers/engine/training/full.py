"""Full fine-tuning: every weight of the base is trained, and the resident base stays as it was.

The trained weights lie in a buffer of their own; while they are active the base's parameters point at their copies
in the compute dtype, and back at the base's own values afterwards. Nothing is copied to switch between them.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from workers.engine.training.adapter_weights import AdapterWeights
from workers.engine.training.lora import AdaptedLinears

# Master, gradient and two moments, each fp32.
_TRAINING_BYTES = 16


class FullWeights(AdapterWeights):
    """All weights of a model, begun with those of the base.

    For training `flat` holds fp32 masters; to answer alone there are only the copies in the dtype of each parameter.
    """

    def __init__(self, linears: AdaptedLinears, vectors: Mapping[str, tuple[int, ...]], *, trains: bool = True) -> None:
        self._parameters = base_parameters(linears)
        parameters = self._parameters.values()
        device = next(iter(parameters)).device
        super().__init__(sum(p.numel() for p in parameters) if trains else 0, vectors, device=device)
        self._trains = trains
        self._masters = self._views(self.flat.detach()) if trains else {}
        self._gradients = self._views(self.gradient) if trains else {}
        # What is fp32 in the base computes with the masters themselves.
        self._compute = {
            name: self._masters[name] if trains and p.dtype == torch.float32 else torch.empty_like(p.data)
            for name, p in self._parameters.items()
        }
        for name, target in self.masters().items():
            target.copy_(self._parameters[name].data)
        self.refresh()

    def _views(self, flat: Tensor) -> dict[str, Tensor]:
        views: dict[str, Tensor] = {}
        offset = 0
        for name, parameter in self._parameters.items():
            end = offset + parameter.numel()
            views[name] = flat[offset:end].view(parameter.shape)
            offset = end
        return views

    @property
    def trained_layers(self) -> tuple[str, ...]:
        return ("all weights",)

    @property
    def has_moved(self) -> bool:
        return any(not torch.equal(self._compute[name], p.data) for name, p in self._parameters.items())

    @torch.no_grad()
    def refresh(self) -> None:
        for name, master in self._masters.items():
            if self._compute[name] is not master:
                self._compute[name].copy_(master)

    def masters(self) -> dict[str, Tensor]:
        return self._masters if self._trains else self._compute

    def tensors(self) -> dict[str, Tensor]:
        """In the base's dtype: exactly what was computed with."""
        return self._compute

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within: the base's parameters are these weights, and while autograd is on they gather gradients."""
        resting = [p.data for p in self._parameters.values()]
        gathers = torch.is_grad_enabled() and bool(self._gradients)
        hooks = []
        for name, p in self._parameters.items():
            p.data = self._compute[name]
            if gathers:
                p.requires_grad_(True)
                gather = partial(_gather, self._gradients[name])
                hooks.append(p.register_post_accumulate_grad_hook(gather))  # type: ignore[no-untyped-call]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
            for p, data in zip(self._parameters.values(), resting, strict=True):
                p.requires_grad_(False)
                p.data = data

    def forget_gradients(self) -> None:
        super().forget_gradients()
        self._gradients = {}


def _gather(total: Tensor, parameter: Tensor) -> None:
    """Add a parameter's gradient to its place in the fp32 buffer, and free it at once."""
    if parameter.grad is not None:
        total.add_(parameter.grad)
        parameter.grad = None


def base_parameters(linears: AdaptedLinears) -> dict[str, nn.Parameter]:
    """Every weight of the base by its name in transformers; a tied one once."""
    named: dict[str, nn.Parameter] = {}
    for name, parameter in linears.model.named_parameters():
        owner, _, last = name.rpartition(".")
        seat = owner.removesuffix(".base")
        named[f"{seat}.{last}" if owner.endswith(".base") and seat in linears.layers else name] = parameter
    return named


def full_training_bytes(linears: AdaptedLinears) -> int:
    """What full fine-tuning holds beside the resident base, without activations."""
    parameters = base_parameters(linears).values()
    return sum(p.numel() * (_TRAINING_BYTES + (0 if p.dtype == torch.float32 else p.itemsize)) for p in parameters)
