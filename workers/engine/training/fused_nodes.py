"""Parts of a decoder layer as single autograd nodes: little is kept, nothing is added up twice.

A part that takes LoRA gets its adapters as `Share`s: which adapter works on which tokens. The gradients of A and B are
summed into the adapters' fp32 buffers; base weights are frozen. Every `leaf` argument is a tensor that requires a
gradient: it makes autograd visit the node also where the input needs none (the first layer), and then no gradient of
the input is worked out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear, silu

from workers.engine.training.adapter_weights import LowRankWeights


@dataclass(frozen=True)
class Share:
    """Tokens [start, end) belong to `adapter`."""

    adapter: LowRankWeights
    start: int
    end: int


@dataclass(frozen=True)
class Norm:
    """RMSNorm (Zhang & Sennrich 2019, arXiv 1910.07467): x / sqrt(mean(x^2) + eps) * weight, worked out in fp32."""

    weight: Tensor  # [h]
    epsilon: float

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Of x [T, h]: it normed, in its dtype, and 1 / root mean square, [T, 1] fp32."""
        wide = x.float()
        scale = torch.linalg.vecdot(wide, wide).div_(x.shape[1]).add_(self.epsilon).rsqrt_().unsqueeze(1)
        wide = wide * scale if wide is x else wide.mul_(scale)
        return wide.to(x.dtype).mul_(self.weight), scale

    def backward(self, grad: Tensor, x: Tensor, scale: Tensor) -> Tensor:
        """Gradient of x [T, h] from that of the output."""
        normed = x.float() * scale
        wide = (grad * self.weight).float()
        mean = torch.linalg.vecdot(wide, normed).div_(x.shape[1]).unsqueeze(1)
        return wide.sub_(normed.mul_(mean)).mul_(scale).to(x.dtype)


@dataclass(frozen=True)
class Linears:
    """Frozen linear layers that read the same input, by name, with the adapters that sit on them."""

    names: tuple[str, ...]
    weights: tuple[Tensor, ...]  # [out_i, in]
    biases: tuple[Tensor | None, ...]
    shares: tuple[Share, ...]

    def forward(self, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Of x [T, in]: outputs [T, out_i], and for each share x A^T of all its layers side by side."""
        outputs = [linear(x, w, b) for w, b in zip(self.weights, self.biases, strict=True)]
        return outputs, self.add_adapters(x, outputs)

    def add_adapters(self, x: Tensor, outputs: Sequence[Tensor]) -> list[Tensor]:
        """Add s x A^T B^T to the outputs; returns x A^T for each share, [tokens, r of all its layers]."""
        downs = []
        for share in self.shares:
            adapter, part = share.adapter, slice(share.start, share.end)
            down = linear(x[part], self._stacked_a(adapter))
            downs.append(down)
            for index, columns in self._columns(adapter):
                b = adapter.compute_b[self.names[index]]
                outputs[index][part].addmm_(down[:, columns], b.t(), alpha=adapter.scaling)
        return downs

    def backward(
        self, grads: Sequence[Tensor], x: Tensor, downs: Sequence[Tensor], *, wants_input: bool
    ) -> Tensor | None:
        """Sum the gradients of A and B, and give that of x [T, in] if it is wanted."""
        grad_x = None
        if wants_input:
            grad_x = grads[0] @ self.weights[0]
            for grad, weight in zip(grads[1:], self.weights[1:], strict=True):
                grad_x.addmm_(grad, weight)
        for share, down in zip(self.shares, downs, strict=True):
            adapter, part = share.adapter, slice(share.start, share.end)
            grad_down = torch.empty_like(down)
            for index, columns in self._columns(adapter):
                name, grad = self.names[index], grads[index][part]
                torch.mm(grad, adapter.compute_b[name], out=grad_down[:, columns])
                adapter.grad_b[name].add_(grad.t() @ down[:, columns], alpha=adapter.scaling)
            grad_a = grad_down.t() @ x[part]
            for index, columns in self._columns(adapter):
                adapter.grad_a[self.names[index]].add_(grad_a[columns], alpha=adapter.scaling)
            if grad_x is not None:
                grad_x[part].addmm_(grad_down, self._stacked_a(adapter), alpha=adapter.scaling)
        return grad_x

    def _columns(self, adapter: LowRankWeights) -> list[tuple[int, slice]]:
        """(which layer, its columns of x A^T) for the layers this adapter has."""
        present = [index for index, name in enumerate(self.names) if name in adapter.shapes]
        rank = adapter.rank
        return [(index, slice(place * rank, (place + 1) * rank)) for place, index in enumerate(present)]

    def _stacked_a(self, adapter: LowRankWeights) -> Tensor:
        """A of the layers this adapter has, one below the other."""
        parts = [adapter.compute_a[name].detach() for name in self.names if name in adapter.shapes]
        return parts[0] if len(parts) == 1 else torch.cat(parts)


class NormedQkv(torch.autograd.Function):
    """x [T, h] → q [T, heads, d], k, v [T, kv_heads, d] of normed x, with rotary positions (Su et al. 2021).

    cos, sin [T, d / 2]; (q1, q2) → (q1 cos - q2 sin, q2 cos + q1 sin) over the two halves of a head.
    """

    @staticmethod
    def forward(  # noqa: PLR0917 autograd passes its inputs by position
        ctx: Any,
        x: Tensor,
        leaf: Tensor,  # noqa: ARG004 see the head of this file
        norm: Norm,
        qkv: Linears,
        cos: Tensor,
        sin: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        normed, scale = norm.forward(x)
        outputs, downs = qkv.forward(normed)
        width = 2 * cos.shape[1]
        q, k, v = (output.view(x.shape[0], -1, width) for output in outputs)
        ctx.save_for_backward(x, scale, cos, sin, *downs)
        ctx.norm, ctx.qkv = norm, qkv
        return _rotate(q, cos, sin), _rotate(k, cos, sin), v

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        x, scale, cos, sin, *downs = ctx.saved_tensors
        normed = (x.float() * scale).to(x.dtype).mul_(ctx.norm.weight)
        q, k, v = grad_outputs
        grads = [t.reshape(x.shape[0], -1) for t in (_rotate(q, cos, -sin), _rotate(k, cos, -sin), v)]
        grad = ctx.qkv.backward(grads, normed, downs, wants_input=ctx.needs_input_grad[0])
        return None if grad is None else ctx.norm.backward(grad, x, scale), None, None, None, None, None


def _rotate(heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """The heads [T, n, d] turned by the angles of cos, sin [T, d / 2]."""
    cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
    first, second = heads.chunk(2, -1)
    turned = torch.empty(heads.shape, dtype=heads.dtype, device=heads.device)
    one, two = turned.chunk(2, -1)
    torch.mul(first, cos, out=one).addcmul_(second, sin, value=-1)
    torch.mul(second, cos, out=two).addcmul_(first, sin)
    return turned


class AddedLinear(torch.autograd.Function):
    """Of x [T, in], residual [T, out] → residual + W x + b, adapters included."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        residual: Tensor,
        leaf: Tensor,  # noqa: ARG004 as above
        layer: Linears,
    ) -> Tensor:
        output = _added(residual, x, layer)
        ctx.save_for_backward(x, *layer.add_adapters(x, [output]))
        ctx.layer = layer
        return output

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        x, *downs = ctx.saved_tensors
        grad = ctx.layer.backward(grad_outputs, x, downs, wants_input=True)
        return grad, grad_outputs[0] if ctx.needs_input_grad[1] else None, None, None


def _added(residual: Tensor, x: Tensor, layer: Linears) -> Tensor:
    """Residual + W x + b, the adapters apart."""
    output = torch.addmm(residual, x, layer.weights[0].t())
    return output if layer.biases[0] is None else output.add_(layer.biases[0])


class NormedMlp(torch.autograd.Function):
    """x [T, h] → x + down(silu(gate(normed x)) * up(normed x)); kept are x, gate and up, the rest is made again."""

    @staticmethod
    def forward(  # noqa: PLR0917 as above
        ctx: Any,
        x: Tensor,
        leaf: Tensor,  # noqa: ARG004 as above
        norm: Norm,
        gate_up: Linears,
        down: Linears,
    ) -> Tensor:
        normed, scale = norm.forward(x)
        (gate, up), downs = gate_up.forward(normed)
        inner = silu(gate).mul_(up)
        output = _added(x, inner, down)
        last_downs = down.add_adapters(inner, [output])
        ctx.save_for_backward(x, scale, gate, up, *downs, *last_downs)
        ctx.norm, ctx.gate_up, ctx.down = norm, gate_up, down
        return output

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        (grad,) = grad_outputs
        x, scale, gate, up, *downs = ctx.saved_tensors
        count = len(ctx.gate_up.shares)
        active = silu(gate)
        grad_inner = ctx.down.backward([grad], active * up, downs[count:], wants_input=True)
        grad_gate = torch.ops.aten.silu_backward(grad_inner * up, gate)
        grad_up = grad_inner.mul_(active)
        normed = (x.float() * scale).to(x.dtype).mul_(ctx.norm.weight)
        wants_input = ctx.needs_input_grad[0]
        grad_x = ctx.gate_up.backward([grad_gate, grad_up], normed, downs[:count], wants_input=wants_input)
        if grad_x is not None:
            grad_x = ctx.norm.backward(grad_x, x, scale).add_(grad)
        return grad_x, None, None, None, None
