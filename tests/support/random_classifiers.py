"""Adapters with heads of random weights, on any tiny base."""

from pathlib import Path

import torch

from app.contracts.specs import AdapterRef, AdapterTask, LoraSpec
from workers.engine.base_model import ResidentBase
from workers.engine.recipes.head import BIAS, WEIGHT, head_vectors
from workers.engine.recipes.tags import tag_count
from workers.engine.training.adapter_files import encode_adapter, weights_sha256
from workers.engine.training.lora import AdapterWeights


def random_classifier(
    resident: ResidentBase, task: AdapterTask, *, seed: int = 20, scale: float = 0.05
) -> AdapterWeights:
    """An adapter with a head and a probe of random weights; `scale` 0 leaves the base's hidden states as they are."""
    labels = len(task.labels or ())
    outputs = tag_count(labels) if task.recipe == "token_classification" else labels
    adapter = resident.linears.new_adapter(LoraSpec(rank=4, alpha=8), head_vectors(outputs, resident.hidden_size))
    generator = torch.Generator().manual_seed(seed)
    adapter.initialise(generator)
    for b in adapter.B.values():
        b.copy_(torch.randn(b.shape, generator=generator) * scale)
    adapter.refresh()
    with torch.no_grad():
        for name in (WEIGHT, BIAS):
            adapter.vectors[name].copy_(torch.randn(adapter.vectors[name].shape, generator=generator))
    probe = [torch.randn(adapter.vectors[name].shape, generator=generator) for name in (WEIGHT, BIAS)]
    adapter.probe = (probe[0], probe[1])
    adapter.task = task
    return adapter


def write_adapter(folder: Path, adapter: AdapterWeights, resident: ResidentBase, adapter_id: str) -> AdapterRef:
    """The adapter's files in a new folder."""
    folder.mkdir(parents=True)
    for name, data in encode_adapter(adapter, resident.ref.id, resident.family).items():
        (folder / name).write_bytes(data)
    return AdapterRef(id=adapter_id, path=str(folder), sha256=weights_sha256(folder))
