"""One forward pass of the resident base: last hidden states, and logits of the rows that need them."""

from typing import Any

import torch
from torch.nn import functional

from workers.engine.base_model import ResidentBase
from workers.engine.inference.kv_cache import SlotCache


def prefill(resident: ResidentBase, cache: SlotCache, prompts: list[tuple[int, ...]]) -> torch.Tensor:
    """Run whole prompts into the cache's new slots; hidden states [rows, longest, hidden], junk past a row's length."""
    cache.begin_prefill([len(prompt) for prompt in prompts])
    longest = max(len(prompt) for prompt in prompts)
    # Padding stands on the right, where causal attention lets no real token see it: any token will do.
    input_ids = torch.tensor([[*prompt, *[prompt[-1]] * (longest - len(prompt))] for prompt in prompts])
    position_ids = torch.arange(longest)[None, :].expand(len(prompts), -1)
    return _hidden(resident, cache, input_ids.to(resident.device), position_ids.to(resident.device), None)


def decode_step(resident: ResidentBase, cache: SlotCache, token_ids: list[int]) -> torch.Tensor:
    """Run one token for every row of the cache; hidden states [rows, hidden]."""
    mask = cache.begin_step(resident.device)
    input_ids = torch.tensor(token_ids, device=resident.device)[:, None]
    return _hidden(resident, cache, input_ids, cache.positions[:, None], mask)[:, 0]


def logits_of(resident: ResidentBase, hidden: torch.Tensor) -> torch.Tensor:
    """fp32 logits [rows, vocab] of hidden states [rows, hidden], on the device."""
    weight = resident.head_weight
    if hidden.shape[0] == 1 and hidden.device.type == "cpu":
        # On CPUs the matrix-vector product is up to 1.6 times faster than a linear layer of one row in bf16.
        logits = torch.mv(weight, hidden[0]).float()[None, :]
    else:
        logits = functional.linear(hidden, weight).float()
    return logits if resident.head_bias is None else logits + resident.head_bias


def _hidden(
    resident: ResidentBase,
    cache: SlotCache,
    input_ids: torch.Tensor,
    position_ids: torch.Tensor,
    mask: torch.Tensor | None,
) -> torch.Tensor:
    model: Any = resident.model
    output = model.get_decoder()(
        input_ids=input_ids,
        position_ids=position_ids,
        attention_mask=mask,
        past_key_values=cache,
        use_cache=True,
    )
    hidden: torch.Tensor = output.last_hidden_state
    return hidden
