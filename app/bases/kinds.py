"""Families of base models: what each `model_type` we train is."""

from typing import Literal

Kind = Literal["decoder", "encoder", "encoder_decoder"]

# Dense models whose layers are `torch.nn.Linear` and whose attention goes through transformers' AttentionInterface, in
# which the engine keeps packed rows apart. MPNet and DeBERTa compute their attention themselves, so they are not here.
_DECODERS = (
    "gemma",
    "gemma2",
    "gemma3_text",
    "gpt_neox",
    "granite",
    "llama",
    "mistral",
    "olmo",
    "olmo2",
    "opt",
    "phi",
    "phi3",
    "qwen2",
    "qwen3",
    "smollm3",
    "stablelm",
    "starcoder2",
)
_ENCODERS = ("bert", "distilbert", "electra", "modernbert", "roberta", "xlm-roberta")
_ENCODER_DECODERS = ("bart", "marian", "mbart", "pegasus", "t5")

KIND_OF: dict[str, Kind] = {
    **dict.fromkeys(_DECODERS, "decoder"),
    **dict.fromkeys(_ENCODERS, "encoder"),
    **dict.fromkeys(_ENCODER_DECODERS, "encoder_decoder"),
}
