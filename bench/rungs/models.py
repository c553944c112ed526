"""The measured model: a base folder, or a random-weight shape made on the device. Child side."""

from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

# Published configurations of Llama-3-8B, Qwen2.5-7B and SmolLM2-135M.
SHAPES: dict[str, dict[str, Any]] = {
    "llama-3-8b": {
        "model_type": "llama",
        "vocab_size": 128256,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False,
    },
    "qwen2.5-7b": {
        "model_type": "qwen2",
        "vocab_size": 152064,
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": False,
    },
    "smollm2-135m": {
        "model_type": "llama",
        "vocab_size": 49152,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": True,
    },
}
LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def read_config(model: str) -> Any:
    if model in SHAPES:
        fields = {key: value for key, value in SHAPES[model].items() if key != "model_type"}
        return (LlamaConfig if SHAPES[model]["model_type"] == "llama" else Qwen2Config)(**fields)
    return AutoConfig.from_pretrained(model, local_files_only=True)


def load_model(model: str, *, device: str, dtype: torch.dtype, attention: str = "sdpa") -> Any:
    """The model in `dtype` on `device`, in eval mode as loaded."""
    if model not in SHAPES:
        return AutoModelForCausalLM.from_pretrained(
            model, dtype=dtype, local_files_only=True, attn_implementation=attention
        ).to(device)
    torch.manual_seed(0)
    config = read_config(model)
    with torch.device(device):
        return AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=attention).eval()


def load_tokenizer(model: str) -> Any:
    """The base's tokenizer, or an empty one with a padding token: the rows are tokens already."""
    if model not in SHAPES:
        return AutoTokenizer.from_pretrained(model, local_files_only=True)
    empty = Tokenizer(WordLevel({"<pad>": 0}, unk_token="<pad>"))  # noqa: S106 not a password
    return PreTrainedTokenizerFast(tokenizer_object=empty, pad_token="<pad>", eos_token="<pad>")  # noqa: S106


def best_dtype(device: str) -> torch.dtype:
    if device == "cuda":
        return torch.bfloat16
    return torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32  # noqa: SLF001
