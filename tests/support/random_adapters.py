"""Adapters of random weights, with heads or without, on any tiny base."""

from collections.abc import Mapping
from pathlib import Path

import torch

from app.contracts.specs import AdapterRef, AdapterTask, LoraSpec
from workers.engine.base_model import ResidentBase
from workers.engine.recipes.head import BIAS, WEIGHT, head_vectors
from workers.engine.recipes.tags import tag_count
from workers.engine.training.adapter_files import encode_adapter, weights_sha256
from workers.engine.training.lora import AdapterWeights
from workers.engine.training.synced_files import write_file


def random_adapter(
    resident: ResidentBase,
    task: AdapterTask,
    *,
    vectors: Mapping[str, tuple[int, ...]] | None = None,
    seed: int = 35,
    scale: float = 0.1,
) -> AdapterWeights:
    """An adapter whose B is not zero, unless `scale` is; its `vectors` are."""
    adapter = resident.linears.new_adapter(LoraSpec(rank=4, alpha=8), vectors)
    generator = torch.Generator().manual_seed(seed)
    adapter.initialise(generator)
    for b in adapter.B.values():
        b.copy_(torch.randn(b.shape, generator=generator) * scale)
    adapter.refresh()
    adapter.task = task
    return adapter


def random_classifier(
    resident: ResidentBase, task: AdapterTask, *, seed: int = 35, scale: float = 0.1
) -> AdapterWeights:
    """The same with a head and another probe of random weights."""
    labels = len(task.labels or ())
    outputs = tag_count(labels) if task.recipe == "token_classification" else labels
    vectors = head_vectors(outputs, resident.hidden_size)
    adapter = random_adapter(resident, task, vectors=vectors, seed=seed, scale=scale)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name in (WEIGHT, BIAS):
            adapter.vectors[name].copy_(torch.randn(vectors[name], generator=generator))
    adapter.probe = (torch.randn(vectors[WEIGHT], generator=generator), torch.randn(vectors[BIAS], generator=generator))
    return adapter


def write_adapter(folder: Path, adapter: AdapterWeights, resident: ResidentBase, adapter_id: str) -> AdapterRef:
    """The adapter's files in a new folder."""
    folder.mkdir(parents=True)
    for name, data in encode_adapter(adapter, resident.ref.id, resident.family).items():
        write_file(folder / name, data)
    return AdapterRef(id=adapter_id, path=str(folder), sha256=weights_sha256(folder))
