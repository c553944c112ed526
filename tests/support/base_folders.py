"""Folders of base models without a model: a config, an empty tokenizer and one tensor."""

import json
from pathlib import Path
from typing import Any

CONFIGS: dict[str, dict[str, Any]] = {
    "bert": {"max_position_embeddings": 512, "type_vocab_size": 2, "position_embedding_type": "absolute"},
    "roberta": {"max_position_embeddings": 514, "pad_token_id": 1},
    "xlm-roberta": {"max_position_embeddings": 514, "pad_token_id": 1},
    "distilbert": {"max_position_embeddings": 512, "dim": 32, "n_layers": 1, "tie_weights_": True},
    "electra": {"max_position_embeddings": 512, "embedding_size": 16, "summary_type": "first"},
    "modernbert": {"max_position_embeddings": 512, "global_attn_every_n_layers": 1},
    "t5": {"d_model": 32, "n_positions": 512, "task_specific_params": {"summarization": {"num_beams": 4}}},
    "bart": {"max_position_embeddings": 512, "encoder_layers": 1, "num_beams": 4},
    "mbart": {"max_position_embeddings": 512, "scale_embedding": True},
    "marian": {"max_position_embeddings": 512, "decoder_vocab_size": 100},
    "pegasus": {"max_position_embeddings": 512, "extra_pos_embeddings": 1},
}


def write_base_folder(folder: Path, architecture: str, **changes: Any) -> Path:
    """A sound folder of that architecture; `changes` are laid over its config, None takes a key out."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"model_type": architecture, "vocab_size": 8, **CONFIGS[architecture], **changes}
    config = {key: value for key, value in config.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text("{}")
    header = json.dumps({"weight": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(16))
    return folder
