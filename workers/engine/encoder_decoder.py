"""Encoder-decoders: their two halves, and what of their mathematics lies outside transformers' attention interface.

Packed rows need positions that restart in every row, and these models make their own: absolute ones in a module
`embed_positions`, T5's relative ones as a bias that its first block makes for the whole length. Hooks put the
restarting ones in their place, within `attention.packed` only.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.cache_utils import EncoderDecoderCache

from workers.engine.training.attention import current_packing

# T5's own attention layout: a bias of relative positions, shared by all blocks of a half.
_RELATIVE = frozenset({"t5", "mt5"})
# BART's: absolute positions, learned or sinusoidal. M2M-100 is left out: its positions depend on the token ids.
_ABSOLUTE = frozenset({"bart", "mbart", "marian", "pegasus"})
KNOWN = _RELATIVE | _ABSOLUTE
_BIAS_ALIGNMENT = 16  # torch's attention with a bias on a GPU wants its rows to start at multiples of this


def hook_positions(model: PreTrainedModel) -> None:
    """Make positions restart in every packed row. Once per model."""
    halves: list[Any] = [model.get_encoder(), model.get_decoder()]  # type: ignore[no-untyped-call]
    for half in halves:
        if model.config.model_type in _RELATIVE:
            half.block[0].register_forward_pre_hook(_restart_relative)
        else:
            half.embed_positions.register_forward_pre_hook(_restart_absolute, with_kwargs=True)


def encode(model: PreTrainedModel, input_ids: Tensor, mask: Tensor | None = None) -> Tensor:
    """The encoder's output [rows, T, hidden] for ids [rows, T]; `mask` is 1 at real tokens, None for packed rows."""
    encoder: Any = model.get_encoder()
    output = encoder(input_ids=input_ids, attention_mask=mask)
    return cast("Tensor", output.last_hidden_state)


def decode(
    model: PreTrainedModel,
    input_ids: Tensor,
    memory: Tensor,
    mask: Tensor | None = None,
    cache: EncoderDecoderCache | None = None,
) -> Tensor:
    """The decoder's hidden states [rows, T, hidden], scaled as the head wants them.

    `memory` is the encoder's output and `mask` [rows, source tokens] is 1 where it stands for real tokens.
    """
    decoder: Any = model.get_decoder()  # type: ignore[no-untyped-call]
    output = decoder(
        input_ids=input_ids,
        encoder_hidden_states=memory,
        encoder_attention_mask=mask,
        past_key_values=cache,
        use_cache=cache is not None,
    )
    hidden = cast("Tensor", output.last_hidden_state)
    # T5 1.0 shares the head with the embeddings and makes up for their size here.
    if getattr(model.config, "scale_decoder_outputs", False):
        hidden = hidden * cast("float", model.config.d_model**-0.5)
    return hidden


def head_bias(model: PreTrainedModel) -> Tensor | None:
    """What is added to the logits, [vocabulary]: BART's and Marian's `final_logits_bias`."""
    bias = getattr(model, "final_logits_bias", None)
    return None if bias is None else cast("Tensor", bias)[0]


def _restart_absolute(
    _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    packing = current_packing()
    return None if packing is None else (args, kwargs | {"position_ids": packing.positions})


def _restart_relative(block: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """The bias of the longest row in place of one over all rows together, and none for the cross-attention.

    `args` are (hidden, mask, bias, memory, memory's mask, cross-attention's bias), as T5's stack passes them.
    """
    packing = current_packing()
    if packing is None:
        return None
    attention = cast("Any", block).layer[0].SelfAttention
    size = -(-packing.longest // _BIAS_ALIGNMENT) * _BIAS_ALIGNMENT
    bias: Tensor = attention.compute_bias(size, size)
    if attention.is_causal:
        later = torch.ones(size, size, dtype=torch.bool, device=bias.device).triu(1)
        bias = bias.masked_fill(later, float("-inf"))
    hidden, mask, _, memory, memory_mask, _ = args
    return (hidden, mask, bias, memory, memory_mask, bias.new_zeros(()))
