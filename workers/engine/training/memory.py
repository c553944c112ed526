"""What a training run will hold in memory, worked out before it starts.

Arithmetic alone, from the shapes of the base: its weights, the trained weights with their gradients, optimiser and
compute copies, what a micro-batch keeps for the way back, and the logits of a chunk. Nothing is checkpointed: every
activation that the way back needs is counted.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from app.contracts.errors import usage
from app.contracts.specs import TrainSpec
from workers.engine.base_model import ResidentBase
from workers.engine.machine import memory_bytes
from workers.engine.training.cpu_attention import kept_keys
from workers.engine.training.full import full_training_bytes
from workers.engine.training.fused_layers import is_fused
from workers.engine.training.loss import chunk_bytes

_FP32 = 4
_MASTER_BYTES = 4 * _FP32  # weight, gradient and two moments
# A process with torch and transformers in it; on a GPU the context and the libraries' workspaces.
RUNTIME_BYTES = {"cpu": 450 * 2**20, "cuda": 1200 * 2**20}
_KEPT_OF_LOGITS = 2.5  # the chunk in fp32 and in the base's dtype, and what one operation makes of it
# transformers' own forward keeps norms in fp32, both factors of the gated product, dropout's input…
_PLAIN_FACTOR = 2
_BUDGET_STEP = 256  # tokens
# Above it a CPU run tries its largest micro-batch first: the estimate leaves out what else the machine does.
_TIGHT_SHARE = 0.5
_DEFAULT_BUDGET = {"cpu": 2048, "cuda": 8192}  # tokens of a micro-batch


@dataclass(frozen=True)
class Shapes:
    """Sizes of a base, as far as memory depends on them."""

    base_bytes: int  # of all weights, as they are held
    element_bytes: int  # of an activation
    hidden: int
    vocabulary: int
    layers: tuple[tuple[int, int], ...]  # (in, out) of every wrapped linear layer
    attention_heads: int  # of all layers together
    is_fused: bool


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes of one run on one device."""

    device: str  # "cpu" or "cuda"
    base_bytes: int
    trained_bytes: int
    activation_bytes_per_token: int
    token_budget: int  # of a micro-batch
    longest: int  # tokens of the longest row, which may stand alone above the budget
    head_bytes: int
    available_bytes: int

    @property
    def micro_batch_tokens(self) -> int:
        return max(self.token_budget, self.longest)

    @property
    def activation_bytes(self) -> int:
        return self.activation_bytes_per_token * self.micro_batch_tokens

    @property
    def total_bytes(self) -> int:
        fixed = RUNTIME_BYTES[self.device] + self.base_bytes + self.trained_bytes + self.head_bytes
        return fixed + self.activation_bytes

    @property
    def fits(self) -> bool:
        return self.total_bytes <= self.available_bytes

    @property
    def is_tight(self) -> bool:
        """Whether the largest micro-batch should be tried before the first step."""
        return self.device != "cpu" or self.total_bytes > _TIGHT_SHARE * self.available_bytes

    @property
    def largest_micro_batch(self) -> int:
        """Tokens of a micro-batch that would fit, in steps of 256; 0 if none does."""
        room = self.available_bytes - self.total_bytes + self.activation_bytes
        return max(0, room // self.activation_bytes_per_token // _BUDGET_STEP * _BUDGET_STEP)

    @property
    def sentence(self) -> str:
        return (
            f"Training takes about {self.total_bytes / 1e9:.1f} GB ({self.base_bytes / 1e9:.1f} for the base, "
            f"{self.trained_bytes / 1e9:.1f} for what is trained and its optimiser, {self.activation_bytes / 1e9:.1f} "
            f"for a micro-batch of {self.micro_batch_tokens} tokens); the device has "
            f"{self.available_bytes / 1e9:.1f} GB."
        )


def fit_together(estimates: Sequence[MemoryEstimate]) -> bool:
    """Whether runs on one resident base fit the device: the base is there once, and one micro-batch at a time."""
    one = estimates[0]
    shared = RUNTIME_BYTES[one.device] + one.base_bytes
    own = sum(each.trained_bytes for each in estimates)
    in_turn = max(each.activation_bytes + each.head_bytes for each in estimates)
    return shared + own + in_turn <= one.available_bytes


def shapes_of(resident: ResidentBase) -> Shapes:
    """The sizes of a base in memory, quantised weights as they are."""
    config: Any = resident.model.config
    depth, heads = int(config.num_hidden_layers), int(config.num_attention_heads)
    # Of an encoder-decoder: the encoder's, the decoder's own, and those that look from one to the other.
    attentions = 3 * depth if resident.family == "encoder_decoder" else depth
    layers = tuple((seat.in_features, seat.out_features) for seat in resident.linears.layers.values())
    return Shapes(
        base_bytes=sum(p.numel() * p.element_size() for p in resident.model.parameters()),
        element_bytes=resident.dtype.itemsize,
        hidden=resident.hidden_size,
        vocabulary=resident.vocab_size if resident.family != "encoder" else 0,
        layers=layers,
        attention_heads=attentions * heads,
        is_fused=sum(is_fused(module) for module in resident.model.modules()) == depth,
    )


def estimate(resident: ResidentBase, spec: TrainSpec, *, token_budget: int, lengths: Collection[int]) -> MemoryEstimate:
    """For rows of these lengths in micro-batches of `token_budget` tokens (a longer row stands alone)."""
    longest = max(lengths)
    shapes = shapes_of(resident)
    device = resident.device.type
    if spec.tuning == "full":
        trained = full_training_bytes(resident.linears)
    else:
        linears = resident.linears.shapes(spec.lora.targets).values()
        weights = sum(spec.lora.rank * (one.in_features + one.out_features) for one in linears)
        trained = weights * (_MASTER_BYTES + shapes.element_bytes)
    is_fused_run = (
        shapes.is_fused and spec.tuning == "adapter" and spec.lora.variant != "dora" and not spec.lora.dropout
    )
    keys = max(map(kept_keys, lengths)) if device == "cpu" else 0
    per_token = activation_bytes_per_token(shapes, rank=spec.lora.rank, kept_keys=keys, is_fused=is_fused_run)
    chunk = min(chunk_bytes(torch.device(device)), _FP32 * shapes.vocabulary * max(token_budget, longest))
    return MemoryEstimate(
        device=device,
        base_bytes=shapes.base_bytes,
        trained_bytes=trained,
        activation_bytes_per_token=per_token,
        token_budget=token_budget,
        longest=longest,
        head_bytes=int(_KEPT_OF_LOGITS * chunk),
        available_bytes=memory_bytes(resident.device),
    )


def activation_bytes_per_token(shapes: Shapes, *, rank: int, kept_keys: int, is_fused: bool) -> int:
    """What one token leaves in memory until its gradients are made; `kept_keys` probabilities for each head.

    A fused layer keeps the outputs of q, k, v, gate and up, the input of o, the residual stream twice, and x A^T.
    """
    if is_fused:
        kept = sum(out for _, out in shapes.layers) + 2 * rank * len(shapes.layers)
    else:
        kept = _PLAIN_FACTOR * sum(width + out for width, out in shapes.layers)
    kept += shapes.attention_heads * kept_keys
    # The outputs of o and down are not kept, but the residual stream is at the same two places.
    return int(kept * shapes.element_bytes)


def plan(resident: ResidentBase, spec: TrainSpec, *, lengths: Collection[int]) -> MemoryEstimate:
    """The estimate of this run with the micro-batch it will have: what the job asks for, else what fits of the default.

    Usage failure `does_not_fit`, with the figures and what would help.
    """
    default = _DEFAULT_BUDGET[resident.device.type]
    planned = estimate(resident, spec, token_budget=spec.token_budget or default, lengths=lengths)
    if planned.fits:
        return planned
    room = planned.largest_micro_batch
    longest = planned.longest
    if room >= longest and spec.token_budget is None:
        return estimate(resident, spec, token_budget=room, lengths=lengths)
    if room >= longest:
        advice = f"With a token budget of {room} it fits."
    elif room:
        advice = f"Rows of at most {room} tokens (max_length) fit."
    elif spec.tuning == "full":
        advice = "Train an adapter, or choose a smaller base."
    else:
        advice = "Choose a smaller base, or hold it in 4 bits (quantization) where the device can."
    raise usage("does_not_fit", f"{planned.sentence} {advice}", param="model")
