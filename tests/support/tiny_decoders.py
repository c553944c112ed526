"""A tiny random decoder of any architecture that is accepted, built in-process."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from app.contracts.specs import BaseRef
from tests.support.tiny_models import build_tiny_tokenizer, hash_base_folder

_NO_GROUPS = frozenset({"gpt_neox", "opt"})  # each query head has its own keys
_OWN_HEAD_SIZE = frozenset({"gpt_neox", "opt", "phi", "phi3", "stablelm", "starcoder2"})


def build_tiny_decoder(folder: Path, kind: str, *, context_length: int = 256, **settings: Any) -> BaseRef:
    """Write a base folder of `kind` (a model type of transformers) and return its reference."""
    tokenizer = build_tiny_tokenizer()
    fields: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": context_length,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "pad_token_id": 2,
    }
    if kind == "opt":
        fields |= {"ffn_dim": 64, "word_embed_proj_dim": 32, "init_std": 0.2}
    else:
        fields |= {"intermediate_size": 64, "initializer_range": 0.2}
    if kind not in _NO_GROUPS:
        fields |= {"num_key_value_heads": 2}
    if kind not in _OWN_HEAD_SIZE:
        fields |= {"head_dim": 8}
    state = torch.random.get_rng_state()
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **fields | settings))
    torch.random.set_rng_state(state)
    model.eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return BaseRef(
        id=f"tiny-{kind}", path=str(folder), weights_sha256=hash_base_folder(folder), context_length=context_length
    )
