"""Adapters on disk, in PEFT's format: `adapter_config.json` and `adapter_model.safetensors`.

The head of a classifier and the probe it began from lie in the same file under `head.` and `probe.`, so that one
hash names the whole model; `tunesmith.json` says what it was trained for. PEFT passes over both. Where every weight
of the base was trained the file holds them all, by their names in transformers, and there is no `adapter_config.json`.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file

from app.contracts.errors import usage
from app.contracts.specs import AdapterTask, LoraSpec
from workers.engine.training.full import FullWeights
from workers.engine.training.lora import AdaptedLinears, AdapterWeights, LowRankWeights
from workers.engine.training.synced_files import Contents, TensorFile

WEIGHTS_FILE = "adapter_model.safetensors"
CONFIG_FILE = "adapter_config.json"
TASK_FILE = "tunesmith.json"
_VECTOR_PREFIX = "head."
_PROBE_WEIGHT, _PROBE_BIAS = "probe.weight", "probe.bias"
_TASK_TYPES = {"decoder": "CAUSAL_LM", "encoder": "FEATURE_EXTRACTION", "encoder_decoder": "SEQ_2_SEQ_LM"}


def encode_adapter(adapter: AdapterWeights, base_id: str, family: str = "decoder") -> dict[str, Contents]:
    """File name → contents; of a low-rank adapter as `peft.PeftModel.from_pretrained` and vLLM load it.

    The names are those of the base's class: `AutoModelForCausalLM`, `AutoModel` for an encoder.
    """
    tensors = adapter.tensors() | adapter.vectors
    if adapter.probe is not None:
        tensors[_PROBE_WEIGHT], tensors[_PROBE_BIAS] = adapter.probe
    files: dict[str, Contents] = {WEIGHTS_FILE: TensorFile(tensors)}
    if isinstance(adapter, LowRankWeights):
        files[CONFIG_FILE] = _json_bytes(_config(adapter, base_id, family))
    if adapter.task is not None:
        files[TASK_FILE] = (adapter.task.model_dump_json(indent=2) + "\n").encode()
    return files


def _config(adapter: LowRankWeights, base_id: str, family: str) -> dict[str, Any]:
    """What PEFT reads beside the weights."""
    return {
        "peft_type": "LORA",
        "task_type": _TASK_TYPES[family],
        "base_model_name_or_path": base_id,
        "r": adapter.rank,
        "lora_alpha": adapter.alpha,
        "lora_dropout": adapter.dropout,
        "target_modules": list(adapter.trained_layers),
        # Ours leave it out: nothing reads what it makes.
        "exclude_modules": ["pooler.dense"] if family == "encoder" else None,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "layers_to_transform": None,
        "modules_to_save": None,
        "use_dora": adapter.variant == "dora",
        "use_rslora": adapter.variant == "rslora",
    }


def _json_bytes(value: object) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()


def weights_sha256(folder: Path) -> str:
    """Hex SHA-256 of the adapter's safetensors file."""
    with (folder / WEIGHTS_FILE).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_task(folder: Path) -> AdapterTask:
    """What the adapter was trained for; chat where its folder does not say."""
    path = folder / TASK_FILE
    if not path.is_file():
        return AdapterTask(recipe="chat")
    try:
        return AdapterTask.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise usage("invalid_adapter", f"{TASK_FILE} cannot be read: {error}.") from error


def read_probe(folder: Path) -> tuple[torch.Tensor, torch.Tensor] | None:
    """The linear layer a classifier's head began from, on the CPU; None where there is none."""
    tensors = load_file(folder / WEIGHTS_FILE)
    if _PROBE_WEIGHT not in tensors:
        return None
    return tensors[_PROBE_WEIGHT], tensors[_PROBE_BIAS]


def load_adapter(linears: AdaptedLinears, folder: Path, *, dropout: float = 0.0, trains: bool = True) -> AdapterWeights:
    """Read what was trained onto this base; usage failure when it is damaged or made for another base.

    `trains` False leaves out what only further training needs.
    """
    task = read_task(folder)
    try:
        tensors = load_file(folder / WEIGHTS_FILE)
    except (OSError, SafetensorError) as error:
        raise usage("invalid_adapter", f"{WEIGHTS_FILE} cannot be read: {error}.") from error
    shapes = {name: tuple(tensors[name].shape) for name in sorted(tensors) if name.startswith(_VECTOR_PREFIX)}
    probe = [tensors.pop(name) for name in (_PROBE_WEIGHT, _PROBE_BIAS) if name in tensors]
    adapter: AdapterWeights
    if task.tuning == "full":
        adapter = FullWeights(linears, shapes, trains=trains)
    else:
        adapter = linears.new_adapter(_read_spec(folder, dropout), shapes)
    adapter.task = task
    if len(probe) == 2:
        weight, bias = (part.to(adapter.flat.device) for part in probe)
        adapter.probe = (weight, bias)
    _fill(adapter, tensors)
    if not trains:
        adapter.forget_gradients()
    return adapter


@torch.no_grad()
def _fill(adapter: AdapterWeights, tensors: dict[str, torch.Tensor]) -> None:
    targets = adapter.masters() | adapter.vectors
    if targets.keys() != tensors.keys():
        missing, extra = sorted(targets.keys() - tensors.keys()), sorted(tensors.keys() - targets.keys())
        raise usage(
            "invalid_adapter",
            f"The adapter does not fit this base: {len(missing)} weights missing {missing[:2]}, "
            f"{len(extra)} unknown {extra[:2]}. Train it on this base, or name its own base.",
        )
    for name, target in targets.items():
        _copy(target, tensors[name], name)
    adapter.refresh()


def _copy(target: torch.Tensor, source: torch.Tensor, name: str) -> None:
    if target.shape != source.shape:
        raise usage(
            "invalid_adapter",
            f"{name} has shape {tuple(source.shape)}; this base and rank need {tuple(target.shape)}.",
        )
    if not torch.isfinite(source).all():
        raise usage("invalid_adapter", f"{name} holds values that are not finite.")
    target.copy_(source)


def _read_spec(folder: Path, dropout: float) -> LoraSpec:
    config = _read_config(folder)
    return LoraSpec(
        variant="dora" if config.get("use_dora") else "rslora" if config.get("use_rslora") else "lora",
        rank=config["r"],
        alpha=config["lora_alpha"],
        dropout=dropout,
        targets=tuple(config["target_modules"]),
    )


def _read_config(folder: Path) -> dict[str, Any]:
    """`adapter_config.json`, checked: LoRA, rsLoRA or DoRA without anything our layers cannot do."""
    try:
        config = json.loads((folder / CONFIG_FILE).read_bytes())
    except (OSError, ValueError) as error:
        raise usage("invalid_adapter", f"{CONFIG_FILE} cannot be read: {error}.") from error
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise usage("invalid_adapter", f"{CONFIG_FILE} does not describe a LoRA adapter (peft_type 'LORA').")
    for key in ("modules_to_save", "rank_pattern", "alpha_pattern", "fan_in_fan_out"):
        if config.get(key):
            raise usage("unsupported_adapter", f"{CONFIG_FILE} sets {key}, which is not supported.")
    if config.get("use_dora") and config.get("use_rslora"):
        raise usage("unsupported_adapter", f"{CONFIG_FILE} sets use_dora and use_rslora; one of them is supported.")
    if config.get("bias", "none") != "none":
        raise usage("unsupported_adapter", f"{CONFIG_FILE} trains biases; only bias 'none' is supported.")
    targets = config.get("target_modules")
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if isinstance(targets, str) or not targets or not isinstance(rank, int) or not isinstance(alpha, int | float):
        raise usage("invalid_adapter", f"{CONFIG_FILE} must name r, lora_alpha and a list of target_modules.")
    return config
