"""The models in memory: a few bases and the adapters on them, least recently used ones leave first."""

import gc
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import torch

from app.contracts.predictions import PredictSpec
from app.contracts.specs import AdapterRef, BaseRef, GenerateSpec
from workers.engine.base_model import ResidentBase, load_base
from workers.engine.inference.adapters import load_verified_adapter, require_active
from workers.engine.training.lora import AdapterWeights

ModelKey = tuple[str, str | None]  # SHA-256 of the base's weights, of the adapter's


def model_key(spec: GenerateSpec) -> ModelKey:
    """What two requests must share to run in one batch."""
    return (spec.base.weights_sha256, spec.adapter.sha256 if spec.adapter else None)


@dataclass
class _LoadedBase:
    resident: ResidentBase
    adapters: OrderedDict[tuple[str, str], AdapterWeights] = field(default_factory=OrderedDict)


class ModelsCache:
    """Loads on first use. For one thread: loading and generating must not mix."""

    def __init__(
        self,
        device: torch.device,
        *,
        max_bases: int,
        max_adapters: int,
        load: Callable[[BaseRef, torch.device], ResidentBase] = load_base,
    ) -> None:
        self._device = device
        self._max_bases = max_bases
        self._max_adapters = max_adapters
        self._load = load
        self._bases: OrderedDict[str, _LoadedBase] = OrderedDict()

    def can_serve(self, spec: GenerateSpec | PredictSpec, busy: Collection[str]) -> bool:
        """Whether the base is here, or there is room for it without touching the `busy` ones (by hash)."""
        is_here = spec.base.weights_sha256 in self._bases
        return is_here or len(self._bases) < self._max_bases or any(key not in busy for key in self._bases)

    def get(self, spec: GenerateSpec, busy: Collection[str] = ()) -> tuple[ResidentBase, AdapterWeights | None]:
        """The model a request names. Raises `WorkerFailure` when it cannot be loaded or does nothing."""
        base = self._base(spec.base, busy)
        return base.resident, None if spec.adapter is None else self._adapter(base, spec.adapter)

    def get_tuned(self, spec: PredictSpec, busy: Collection[str] = ()) -> tuple[ResidentBase, AdapterWeights]:
        """The same for a request that always names an adapter."""
        base = self._base(spec.base, busy)
        return base.resident, self._adapter(base, spec.adapter)

    def _base(self, ref: BaseRef, busy: Collection[str]) -> _LoadedBase:
        found = self._bases.get(ref.weights_sha256)
        if found is None:
            while len(self._bases) >= self._max_bases:
                del self._bases[next(key for key in self._bases if key not in busy)]
                gc.collect()
            found = self._bases[ref.weights_sha256] = _LoadedBase(self._load(ref, self._device))
        self._bases.move_to_end(ref.weights_sha256)
        found.resident.ref = ref
        return found

    def _adapter(self, base: _LoadedBase, ref: AdapterRef) -> AdapterWeights:
        # Equal weights may stand under other labels, which lie beside them in the folder.
        key = (ref.sha256, ref.path)
        found = base.adapters.get(key)
        if found is None:
            found = load_verified_adapter(base.resident, ref)
            require_active(base.resident, found, adapter_id=ref.id)
            base.adapters[key] = found
        base.adapters.move_to_end(key)
        while len(base.adapters) > self._max_adapters:
            base.adapters.popitem(last=False)  # a batch that still uses it keeps it alive
        return found
