"""The text side of a base: all that turns rows into tokens, without weights and without a device."""

from dataclasses import dataclass
from pathlib import Path

from transformers import AutoConfig, AutoTokenizer, GenerationConfig, PreTrainedConfig, PreTrainedTokenizerBase

from app.contracts.errors import usage
from app.contracts.specs import BaseRef
from workers.engine.base_model import Family, family_of, stop_token_ids


@dataclass(frozen=True)
class TextSide:
    """A base known by its small files only. What it has, a `ResidentBase` has under the same names."""

    ref: BaseRef
    family: Family
    config: PreTrainedConfig
    tokenizer: PreTrainedTokenizerBase
    stop_token_ids: tuple[int, ...]


def load_text_side(ref: BaseRef) -> TextSide:
    """Read configs and tokenizer from `ref.path`: no remote code, no network. `invalid_base` where they are unsound."""
    folder = Path(ref.path)
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        stop = stop_token_ids(_generation_config(folder, config), tokenizer)
    except (OSError, ValueError) as error:
        raise usage("invalid_base", f"The tokenizer of base '{ref.id}' cannot be loaded: {error}") from error
    return TextSide(ref, family_of(config), config, tokenizer, stop)


def _generation_config(folder: Path, config: PreTrainedConfig) -> GenerationConfig:
    """As a loaded model has it: from its own file or, where there is none, from the base's config."""
    if (folder / "generation_config.json").is_file():
        return GenerationConfig.from_pretrained(folder, local_files_only=True)
    return GenerationConfig.from_model_config(config)
