"""GGUF file → ordinary base folder: bf16 safetensors, tokenizer files and chat template.

Quantised weights are dequantised once; without `GgufConfig(dequantize=True)` transformers
marks the model as quantised and refuses to save it.
"""

import shutil
import uuid
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from app.contracts.errors import usage


def convert_gguf(source: Path, destination: Path) -> None:
    """Write the base folder `destination` from the file `source`; whole or not at all.

    Raises a usage failure when `source` is no GGUF file or `destination` exists already.
    """
    with source.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise usage("invalid_gguf", f"{source.name} is not a GGUF file: its first four bytes are not 'GGUF'.")
    if destination.exists():
        raise usage("destination_exists", f"The folder {destination} exists already; remove it or choose another.")
    folder, name = str(source.parent), source.name
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name, local_files_only=True, trust_remote_code=False)
    model: Any = AutoModelForCausalLM.from_pretrained(
        folder,
        gguf_file=name,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),
        local_files_only=True,
        trust_remote_code=False,
    )
    model.to(torch.bfloat16)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    staging = destination.with_name(f".{destination.name}.{uuid.uuid4().hex}")
    try:
        model.save_pretrained(staging)
        tokenizer.save_pretrained(staging)
        staging.chmod(0o755)
        staging.rename(destination)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
