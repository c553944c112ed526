"""Decoder layers of the Llama build run as four autograd nodes while rows are packed; all others stay as they are.

A layer qualifies by its structure (RMSNorm, q/k/v/o without anything between, gated SiLU, two residual sums) and by
its numbers: its output must be that of transformers' own forward on random rows. What a fused layer cannot do
(a cache, dropout, DoRA, weights that are themselves trained) it hands to transformers' forward, call by call.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from workers.engine.training.attention import attention_forward, current_packing, packed
from workers.engine.training.fused_nodes import AddedLinear, Linears, Norm, NormedMlp, NormedQkv, Share
from workers.engine.training.lora import ActiveAdapters, AdaptedLinears, SeatLinear

_LAYER_PARTS = {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}
_ATTENTION_PARTS = {"q_proj", "k_proj", "v_proj", "o_proj"}
_MLP_PARTS = {"gate_proj", "up_proj", "down_proj", "act_fn"}
_CHECK_ROWS = (7, 5)


def fuse_layers(model: nn.Module, linears: AdaptedLinears) -> int:
    """Give every decoder layer that qualifies its fused forward; returns how many did."""
    found = [module for module in model.modules() if _is_llama_build(module)]
    body = next((m for m in model.modules() if isinstance(getattr(m, "rotary_emb", None), nn.Module)), None)
    if not found or body is None:
        return 0
    fused = [_FusedLayer(layer, linears.active) for layer in found]
    difference = _difference(fused[0], cast("nn.Module", body.rotary_emb))
    tolerance = 1e-4 if fused[0].dtype == torch.float32 else 2e-2
    if not difference < tolerance:
        name = type(found[0]).__name__
        sys.stderr.write(f"{name} looks like a Llama layer but differs by {difference:.1e}: it stays as it is\n")
        return 0
    for one in fused:
        one.layer.forward = one.forward
    return len(fused)


def is_fused(module: nn.Module) -> bool:
    """Whether this decoder layer has its fused forward."""
    return "forward" in vars(module) and isinstance(getattr(module.forward, "__self__", None), _FusedLayer)


def _is_llama_build(module: nn.Module) -> bool:
    """By structure; what only the numbers can tell is left to `_difference`."""
    if {name for name, _ in module.named_children()} != _LAYER_PARTS:
        return False
    parts: Any = module
    attention, mlp = parts.self_attn, parts.mlp
    if {name for name, _ in attention.named_children()} != _ATTENTION_PARTS:
        return False
    if {name for name, _ in mlp.named_children()} != _MLP_PARTS or "silu" not in type(mlp.act_fn).__name__.lower():
        return False
    linears = [getattr(attention, n) for n in sorted(_ATTENTION_PARTS)]
    linears += [mlp.gate_proj, mlp.up_proj, mlp.down_proj]
    norms = (parts.input_layernorm, parts.post_attention_layernorm)
    return all(isinstance(one, SeatLinear) and type(one.base) is nn.Linear for one in linears) and all(
        isinstance(getattr(norm, "variance_epsilon", None), float) and len(list(norm.parameters())) == 1
        for norm in norms
    )


@dataclass(frozen=True)
class _Group:
    """Linear layers that read the same input."""

    layers: tuple[SeatLinear, ...]

    def with_shares(self, shares: Sequence[Share]) -> Linears:
        names = tuple(layer.name for layer in self.layers)
        return Linears(
            names,
            tuple(layer.base.weight for layer in self.layers),
            tuple(layer.base.bias for layer in self.layers),
            tuple(share for share in shares if any(name in share.adapter.shapes for name in names)),
        )


class _FusedLayer:
    """One decoder layer and its two ways to run."""

    def __init__(self, layer: nn.Module, active: ActiveAdapters) -> None:
        self.layer: Any = layer
        self.plain = layer.forward
        self.active = active
        attention, mlp = cast("Any", layer.self_attn), cast("Any", layer.mlp)
        self.qkv = _Group((attention.q_proj, attention.k_proj, attention.v_proj))
        self.out = _Group((attention.o_proj,))
        self.gate_up = _Group((mlp.gate_proj, mlp.up_proj))
        self.down = _Group((mlp.down_proj,))

    @property
    def dtype(self) -> torch.dtype:
        return self.qkv.layers[0].weight.dtype

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        """As transformers' layer: [1, T, h] → [1, T, h]."""
        shares = self._shares(hidden_states)
        if args or shares is None or kwargs.get("past_key_values") is not None:
            return self.plain(hidden_states, *args, **kwargs)
        return self.fused(hidden_states.squeeze(0), kwargs["position_embeddings"], shares).unsqueeze(0)

    def _shares(self, hidden_states: Tensor) -> list[Share] | None:
        """Which adapter works on which tokens; None where the plain forward has to do it."""
        active = self.active
        if current_packing() is None or hidden_states.shape[0] != 1 or self.qkv.layers[0].weight.requires_grad:
            return None
        if active.segments is not None:
            shares = [Share(s.adapter, s.start, s.end) for s in active.segments if s.adapter is not None]
        else:
            shares = [] if active.whole is None else [Share(active.whole, 0, hidden_states.shape[1])]
        has_dropout = active.dropout_key is not None and any(share.adapter.dropout for share in shares)
        has_gains = any(share.adapter.magnitudes for share in shares)
        # Without an adapter and with gradients wanted, autograd goes through the frozen layers by itself.
        is_bare = not shares and torch.is_grad_enabled()
        return None if has_dropout or has_gains or is_bare else shares

    def fused(self, x: Tensor, positions: tuple[Tensor, Tensor], shares: Sequence[Share]) -> Tensor:
        """The same on x [T, h]."""
        cos, sin = (t.squeeze(0).chunk(2, -1)[0] for t in positions)
        leaf = _leaf(shares)
        norm, second_norm = (
            Norm(norm.weight, norm.variance_epsilon)
            for norm in (self.layer.input_layernorm, self.layer.post_attention_layernorm)
        )
        q, k, v = NormedQkv.apply(x, leaf, norm, self.qkv.with_shares(shares), cos, sin)  # type: ignore[no-untyped-call]
        attention = self.layer.self_attn
        query, key, value = (t.transpose(0, 1).unsqueeze(0) for t in (q, k, v))
        seen, _ = attention_forward(attention, query, key, value, None, scaling=attention.scaling)
        flat = seen.reshape(x.shape[0], -1)
        x = AddedLinear.apply(flat, x, leaf, self.out.with_shares(shares))  # type: ignore[no-untyped-call]
        gate_up, down = self.gate_up.with_shares(shares), self.down.with_shares(shares)
        return cast("Tensor", NormedMlp.apply(x, leaf, second_norm, gate_up, down))  # type: ignore[no-untyped-call]


def _leaf(shares: Sequence[Share]) -> Tensor | None:
    """A tensor that makes autograd visit a node; its own gradient goes straight to the adapter's buffer."""
    return next((next(iter(share.adapter.compute_a.values())) for share in shares if share.adapter.shapes), None)


@torch.no_grad()
def _difference(fused: _FusedLayer, rotary: nn.Module) -> float:
    """|fused - plain| / |plain - input| of the output on two random rows, without adapters."""
    weight = fused.qkv.layers[0].weight
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, sum(_CHECK_ROWS), weight.shape[1], generator=generator).to(weight)
    positions = torch.cat([torch.arange(n, device=weight.device) for n in _CHECK_ROWS]).unsqueeze(0)
    embeddings = rotary(x, positions)
    if fused.layer.self_attn.head_dim != embeddings[0].shape[-1]:
        return float("inf")
    with packed(_CHECK_ROWS, weight.device):
        plain = fused.plain(x, attention_mask=None, position_ids=positions, position_embeddings=embeddings)
        ours = fused.fused(x.squeeze(0), embeddings, [])
    plain = plain[0] if isinstance(plain, tuple) else plain
    return float((ours - plain.squeeze(0)).float().norm() / (plain - x).float().norm())
