"""Adapters from disk onto a resident base: the right bytes, and really at work."""

from pathlib import Path

import numpy as np
import torch

from app.contracts.errors import transient, usage
from app.contracts.specs import AdapterRef
from workers.engine.base_model import ResidentBase
from workers.engine.recipes.head import BIAS, WEIGHT
from workers.engine.recipes.pairs import PairIds, frame_of, pack_pairs
from workers.engine.recipes.summarization import pair_hidden
from workers.engine.training.adapter_files import WEIGHTS_FILE, load_adapter, weights_sha256
from workers.engine.training.attention import packed
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
    """Usage failure `adapter_inactive` when base and adapter make the very same of a probe, and no head has learned."""
    if not _has_learned_head(adapter) and torch.equal(_probe(resident, None), _probe(resident, adapter)):
        raise usage(
            "adapter_inactive",
            f"Adapter '{adapter_id}' does not change the base's output: its weights never moved in training. "
            "Train again with more steps or a higher learning rate, or use the base itself.",
            param="model",
        )


def _has_learned_head(adapter: AdapterWeights) -> bool:
    """Whether there is a head that is not the linear probe it began from."""
    if WEIGHT not in adapter.vectors:
        return False
    head = (adapter.vectors[WEIGHT], adapter.vectors[BIAS])
    return adapter.probe is None or not all(map(torch.equal, head, adapter.probe))


def _probe(resident: ResidentBase, adapter: AdapterWeights | None) -> torch.Tensor:
    """Last hidden states [1, tokens, hidden] of a fixed sentence; an encoder-decoder reads and writes it."""
    ids = resident.tokenizer(_PROBE, add_special_tokens=False)["input_ids"][: resident.ref.context_length]
    with torch.inference_mode(), activate(resident.linears, adapter):
        if resident.family == "encoder_decoder":
            sentence = np.asarray(ids, dtype=np.int32)
            pairs = pack_pairs([PairIds(1, sentence, sentence, is_truncated=False)], frame_of(resident).start)
            return pair_hidden(resident, pairs.to(resident.device))
        tokens = torch.tensor([ids], device=resident.device)
        with packed([len(ids)], resident.device):
            return resident.backbone(tokens, torch.arange(len(ids), device=resident.device)[None, :])
