"""Adapters on disk, in PEFT's format: `adapter_config.json` and `adapter_model.safetensors`."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from app.contracts.errors import usage
from app.contracts.specs import LoraSpec
from workers.engine.training.lora import AdaptedLinears, AdapterWeights

WEIGHTS_FILE = "adapter_model.safetensors"
CONFIG_FILE = "adapter_config.json"
_PREFIX = "base_model.model."


def encode_adapter(adapter: AdapterWeights, base_id: str) -> dict[str, bytes]:
    """File name → bytes of the adapter as `peft.PeftModel.from_pretrained` and vLLM load it."""
    tensors: dict[str, torch.Tensor] = {}
    for name in adapter.shapes:
        tensors[f"{_PREFIX}{name}.lora_A.weight"] = adapter.A[name].cpu().contiguous()
        tensors[f"{_PREFIX}{name}.lora_B.weight"] = adapter.B[name].cpu().contiguous()
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_id,
        "r": adapter.rank,
        "lora_alpha": adapter.alpha,
        "lora_dropout": adapter.dropout,
        "target_modules": sorted({name.rsplit(".", 1)[-1] for name in adapter.shapes}),
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "layers_to_transform": None,
        "modules_to_save": None,
        "use_dora": False,
        "use_rslora": False,
    }
    return {
        WEIGHTS_FILE: save(tensors, metadata={"format": "pt"}),
        CONFIG_FILE: (json.dumps(config, indent=2) + "\n").encode(),
    }


def weights_sha256(folder: Path) -> str:
    """Hex SHA-256 of the adapter's safetensors file."""
    with (folder / WEIGHTS_FILE).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_adapter(linears: AdaptedLinears, folder: Path, *, dropout: float = 0.0) -> AdapterWeights:
    """Read an adapter onto this base. Usage failure when it is damaged or made for another base."""
    config = _read_config(folder)
    adapter = linears.new_adapter(
        LoraSpec(
            rank=config["r"],
            alpha=config["lora_alpha"],
            dropout=dropout,
            targets=tuple(config["target_modules"]),
        )
    )
    try:
        tensors = load_file(folder / WEIGHTS_FILE)
    except (OSError, SafetensorError) as error:
        raise usage("invalid_adapter", f"{WEIGHTS_FILE} cannot be read: {error}.") from error
    wanted = {f"{_PREFIX}{name}.lora_{side}.weight" for name in adapter.shapes for side in "AB"}
    if wanted != tensors.keys():
        missing, extra = sorted(wanted - tensors.keys()), sorted(tensors.keys() - wanted)
        raise usage(
            "invalid_adapter",
            f"The adapter does not fit this base: {len(missing)} weights missing {missing[:2]}, "
            f"{len(extra)} unknown {extra[:2]}. Train it on this base, or name its own base.",
        )
    with torch.no_grad():
        for name in adapter.shapes:
            _copy(adapter.A[name], tensors[f"{_PREFIX}{name}.lora_A.weight"], f"{name}.lora_A")
            _copy(adapter.B[name], tensors[f"{_PREFIX}{name}.lora_B.weight"], f"{name}.lora_B")
    adapter.refresh()
    return adapter


def _copy(target: torch.Tensor, source: torch.Tensor, name: str) -> None:
    if target.shape != source.shape:
        raise usage(
            "invalid_adapter",
            f"{name} has shape {tuple(source.shape)}; this base and rank need {tuple(target.shape)}.",
        )
    if not torch.isfinite(source).all():
        raise usage("invalid_adapter", f"{name} holds values that are not finite.")
    target.copy_(source)


def _read_config(folder: Path) -> dict[str, Any]:
    """`adapter_config.json`, checked: plain LoRA without anything our layers cannot do."""
    try:
        config = json.loads((folder / CONFIG_FILE).read_bytes())
    except (OSError, ValueError) as error:
        raise usage("invalid_adapter", f"{CONFIG_FILE} cannot be read: {error}.") from error
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise usage("invalid_adapter", f"{CONFIG_FILE} does not describe a LoRA adapter (peft_type 'LORA').")
    for key in ("use_dora", "use_rslora", "modules_to_save", "rank_pattern", "alpha_pattern", "fan_in_fan_out"):
        if config.get(key):
            raise usage("unsupported_adapter", f"{CONFIG_FILE} sets {key}, which is not supported: plain LoRA only.")
    if config.get("bias", "none") != "none":
        raise usage("unsupported_adapter", f"{CONFIG_FILE} trains biases; plain LoRA with bias 'none' only.")
    targets = config.get("target_modules")
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if isinstance(targets, str) or not targets or not isinstance(rank, int) or not isinstance(alpha, int | float):
        raise usage("invalid_adapter", f"{CONFIG_FILE} must name r, lora_alpha and a list of target_modules.")
    return config
