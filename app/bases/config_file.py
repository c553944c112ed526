"""What config.json says of a base: its architecture, its family and how many tokens it reads."""

from dataclasses import dataclass
from typing import Any

from app.bases.allowlist import CONFIG_KEYS
from app.bases.kinds import KIND_OF, Kind

_MAX_CONTEXT_TOKENS = 2**31 - 1
# T5 has relative positions and no limit of its own; it was trained on rows of so many tokens.
_T5_CONTEXT_TOKENS = 512
# RoBERTa numbers its positions from the padding token's id + 1 on, so that many of them are never used.
_OFFSET_POSITIONS = frozenset({"roberta", "xlm-roberta"})


class BadConfig(ValueError):  # noqa: N818 - "bad config" says it
    """What is wrong, as the end of a sentence about config.json."""


@dataclass(frozen=True)
class BaseConfig:
    architecture: str
    kind: Kind
    context_length: int
    """Tokens a row may have."""


def read_config(config: dict[str, Any]) -> BaseConfig:
    """`BadConfig` for what the engine does not train, or would compute wrongly."""
    architecture = config.get("model_type")
    if not isinstance(architecture, str) or architecture not in KIND_OF:
        raise BadConfig(f"has a model_type this server does not train; it knows {', '.join(sorted(KIND_OF))}")
    unknown = sorted(config.keys() - CONFIG_KEYS)
    if unknown:
        keys = ", ".join(f"'{key[:60]}'" for key in unknown[:5])
        raise BadConfig(f"has keys this server does not know: {keys}")
    kind = KIND_OF[architecture]
    context_length = _context_length(architecture, config)
    if kind == "encoder":
        _check_encoder(architecture, config, context_length)
    return BaseConfig(architecture, kind, context_length)


def _context_length(architecture: str, config: dict[str, Any]) -> int:
    if architecture == "t5":
        return _tokens(config.get("n_positions", _T5_CONTEXT_TOKENS), "n_positions")
    length = _tokens(config.get("max_position_embeddings"), "max_position_embeddings")
    if architecture in _OFFSET_POSITIONS:
        padding = config.get("pad_token_id", 1)
        length -= (padding if type(padding) is int else 1) + 1
        if length <= 0:
            raise BadConfig("has no usable max_position_embeddings beside its pad_token_id")
    return length


def _tokens(value: Any, name: str) -> int:
    if type(value) is not int or not 0 < value <= _MAX_CONTEXT_TOKENS:
        raise BadConfig(f"has no usable {name}")
    return value


def _check_encoder(architecture: str, config: dict[str, Any], context_length: int) -> None:
    """Every token of a row must see every other, by learned or rotary positions."""
    if config.get("is_decoder") or config.get("add_cross_attention") or config.get("is_encoder_decoder"):
        raise BadConfig("makes a decoder of an encoder (is_decoder, add_cross_attention or is_encoder_decoder)")
    if config.get("position_embedding_type", "absolute") != "absolute":
        raise BadConfig("has a position_embedding_type other than 'absolute', which is not computed here")
    if architecture == "modernbert" and not _is_global(config, context_length):
        raise BadConfig("has layers with a sliding window, which is not computed here; full attention in each is")


def _is_global(config: dict[str, Any], context_length: int) -> bool:
    """Whether ModernBERT's layers see the whole row: none slides, or the window (both sides together) holds all."""
    window = config.get("local_attention", 128)
    if type(window) is int and window // 2 >= context_length:
        return True
    layer_types = config.get("layer_types")
    if layer_types is None:
        return bool(config.get("global_attn_every_n_layers", 3) == 1)
    return isinstance(layer_types, list) and all(kind == "full_attention" for kind in layer_types)
