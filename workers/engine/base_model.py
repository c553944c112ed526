"""The resident base: one frozen model in memory, kept between runs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from app.contracts.errors import usage
from app.contracts.specs import BaseRef
from workers.engine import encoder_decoder
from workers.engine.machine import pick_dtype
from workers.engine.recipes.templates import find_turn_end
from workers.engine.training import attention
from workers.engine.training.fused_layers import fuse_layers
from workers.engine.training.lora import AdaptedLinears, wrap_linears
from workers.engine.training.quantised import Quantization, loading_options

Family = Literal["decoder", "encoder", "encoder_decoder"]
# Bidirectional encoders whose attention goes through transformers' attention interface, so that rows can be packed.
ENCODERS = frozenset({"bert", "roberta", "xlm-roberta", "camembert", "distilbert", "electra", "modernbert"})
# Their positions start behind the padding index (fairseq's convention).
_OFFSET_POSITIONS = frozenset({"roberta", "xlm-roberta", "camembert"})
_CLASSES: dict[Family, Any] = {
    "decoder": AutoModelForCausalLM,
    "encoder": AutoModel,
    "encoder_decoder": AutoModelForSeq2SeqLM,
}


@dataclass
class ResidentBase:
    """A frozen transformer with its tokenizer; its linear layers are wrapped for adapters.

    A decoder or encoder-decoder has an output matrix over the vocabulary; an encoder ends in hidden states.
    """

    ref: BaseRef
    family: Family
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    device: torch.device
    dtype: torch.dtype
    stop_token_ids: tuple[int, ...]
    vocab_size: int
    linears: AdaptedLinears
    quantization: Quantization = "none"

    @property
    def head_weight(self) -> Tensor:
        """The frozen output matrix, [vocabulary, hidden]."""
        return cast("Tensor", cast("nn.Module", _head(self.model)).weight)

    @property
    def head_bias(self) -> Tensor | None:
        """What is added to the logits, [vocabulary]; None for most."""
        return encoder_decoder.head_bias(self.model)

    @property
    def config(self) -> PreTrainedConfig:
        return self.model.config

    @property
    def hidden_size(self) -> int:
        return int(self.model.config.hidden_size)

    def backbone(self, input_ids: Tensor, position_ids: Tensor) -> Tensor:
        """Last hidden states [1, T, hidden] of a decoder or encoder, without a cache; inputs are [1, T]."""
        config: Any = self.model.config
        if self.family == "encoder":
            offset = config.pad_token_id + 1 if config.model_type in _OFFSET_POSITIONS else 0
            output = self.model(input_ids=input_ids, position_ids=position_ids + offset)
        else:
            body = cast("nn.Module", self.model.get_decoder())  # type: ignore[no-untyped-call]
            output = body(input_ids=input_ids, position_ids=position_ids, use_cache=False)
        return cast("Tensor", output.last_hidden_state)


def load_base(ref: BaseRef, device: torch.device, quantization: Quantization = "none") -> ResidentBase:
    """Load from the local folder `ref.path`: safetensors only, no remote code, no network.

    Usage failure `invalid_base` when the folder holds no base this engine can load.
    """
    folder = Path(ref.path)
    if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
        raise usage("invalid_base", f"The folder of base '{ref.id}' lacks config.json or safetensors weights.")
    attention.register()
    dtype = pick_dtype(device)
    options = loading_options(quantization, device, dtype)
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        family = family_of(config)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        model: Any = _CLASSES[family].from_pretrained(
            folder,
            dtype=dtype,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            attn_implementation=attention.NAME,
            **options,
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise usage("invalid_base", f"Base '{ref.id}' cannot be loaded: {error}") from error
    refuse_unsupported(model, ref)
    if family == "encoder_decoder":
        encoder_decoder.hook_positions(model)
    if getattr(model, "pooler", None) is not None:
        model.pooler = None  # made for next-sentence prediction; nothing of ours passes through it
    model.requires_grad_(False)
    model.eval()
    if quantization == "none":  # otherwise it was quantised on the device
        model.to(device)
    return make_resident(ref, family, model, tokenizer, dtype=dtype, quantization=quantization)


def make_resident(
    ref: BaseRef,
    family: Family,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    dtype: torch.dtype,
    quantization: Quantization,
) -> ResidentBase:
    """Wrap the linear layers of a loaded, frozen model and fuse its decoder layers, where they can be."""
    linears = wrap_linears(model, _head(model))
    fuse_layers(model, linears)
    embeddings: Any = model.get_input_embeddings()
    return ResidentBase(
        ref=ref,
        family=family,
        model=model,
        tokenizer=tokenizer,
        device=model.device,
        dtype=dtype,
        stop_token_ids=stop_token_ids(getattr(model, "generation_config", None), tokenizer),
        vocab_size=embeddings.weight.shape[0],
        linears=linears,
        quantization=quantization,
    )


def family_of(config: PreTrainedConfig) -> Family:
    """What kind of transformer a configuration describes."""
    if config.is_encoder_decoder:
        return "encoder_decoder"
    return "encoder" if config.model_type in ENCODERS else "decoder"


def refuse_unsupported(model: PreTrainedModel, ref: BaseRef) -> None:
    """Usage failure `unsupported_base` for what our packed loss and decoding leave out: never train it wrongly."""
    config: Any = model.config
    reasons = []
    for name in ("final_logit_softcapping", "attn_logit_softcapping", "logits_scaling", "logit_scale"):
        factor = getattr(config, name, None)
        if factor is not None and factor != 1:
            reasons.append(f"{name} of {factor}")
    window = getattr(config, "sliding_window", None)
    layer_types = getattr(config, "layer_types", None)
    slides = layer_types is None or "sliding_attention" in layer_types
    if slides and window is not None and window < ref.context_length:
        reasons.append(f"a sliding window of {window} tokens in a context of {ref.context_length}")
    if getattr(_head(model), "bias", None) is not None:
        reasons.append("a bias in the output layer")
    if getattr(config, "is_encoder_decoder", False) and config.model_type not in encoder_decoder.KNOWN:
        reasons.append(f"the encoder-decoder architecture '{config.model_type}'")
    if reasons:
        raise usage(
            "unsupported_base",
            f"Base '{ref.id}' has {' and '.join(reasons)}, which this engine does not compute. Choose another base.",
            param="model",
        )


def _head(model: PreTrainedModel) -> nn.Module | None:
    """The layer over the vocabulary; None for an encoder."""
    return cast("nn.Module | None", model.get_output_embeddings())  # type: ignore[no-untyped-call]


def stop_token_ids(generation: GenerationConfig | None, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Every id that ends an answer: generation config, tokenizer, and what the template ends a turn with."""
    found: set[int] = set()
    for value in (getattr(generation, "eos_token_id", None), tokenizer.eos_token_id):
        if isinstance(value, int):
            found.add(value)
        elif value is not None:
            found.update(value)
    turn_end = find_turn_end(tokenizer)
    if turn_end is not None:
        found.add(turn_end)
    return tuple(sorted(found))
