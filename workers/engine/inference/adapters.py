"""Adapters from disk onto a resident base: the right bytes, and really at work."""

from pathlib import Path

import torch

from app.contracts.errors import transient, usage
from app.contracts.specs import AdapterRef
from workers.engine.base_model import ResidentBase
from workers.engine.inference.forward import logits_of, prefill
from workers.engine.inference.kv_cache import SlotCache
from workers.engine.training.adapter_files import WEIGHTS_FILE, load_adapter, weights_sha256
from workers.engine.training.lora import AdapterWeights, activate

_PROBE = "The quick brown fox jumps over the lazy dog."


def load_verified_adapter(resident: ResidentBase, ref: AdapterRef) -> AdapterWeights:
    """The adapter whose file has the hash the registry knows.

    Transient `adapter_missing` or `adapter_hash_mismatch`; usage `invalid_adapter` from the loader.
    """
    folder = Path(ref.path)
    if not (folder / WEIGHTS_FILE).is_file():
        raise transient(
            "adapter_missing", f"The files of adapter '{ref.id}' are not on this machine; fetch them again."
        )
    found = weights_sha256(folder)
    if found != ref.sha256:
        raise transient(
            "adapter_hash_mismatch",
            f"{WEIGHTS_FILE} of adapter '{ref.id}' has SHA-256 {found}, but the registry knows {ref.sha256}; "
            "fetch the files again.",
        )
    # Nothing is trained here: the gradient buffer would double what an adapter holds in memory.
    return load_adapter(resident.linears, folder, trains=False)


def require_active(resident: ResidentBase, adapter: AdapterWeights, *, adapter_id: str) -> None:
    """Usage failure `adapter_inactive` when base and adapter answer a probe with the very same logits."""
    if torch.equal(_probe(resident, None), _probe(resident, adapter)):
        raise usage(
            "adapter_inactive",
            f"Adapter '{adapter_id}' does not change the base's output: its weights never moved in training. "
            "Train again with more steps or a higher learning rate, or use the base itself.",
            param="model",
        )


def _probe(resident: ResidentBase, adapter: AdapterWeights | None) -> torch.Tensor:
    """Logits [tokens, vocab] of a fixed sentence."""
    ids = tuple(resident.tokenizer(_PROBE, add_special_tokens=False)["input_ids"])[: resident.ref.context_length]
    with torch.inference_mode(), activate(resident.linears, adapter):
        return logits_of(resident, prefill(resident, SlotCache(), [ids])[0])
