import pytest
import torch

from app.contracts.specs import LoraSpec
from tests.support.tiny_models import build_tiny_base
from workers.engine.base_model import ResidentBase, load_base
from workers.engine.training.lora import AdapterWeights


@pytest.fixture(scope="package")
def resident(tmp_path_factory) -> ResidentBase:
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNESMITH_ENGINE_DTYPE", "float32")
        return load_base(build_tiny_base(tmp_path_factory.mktemp("base")), torch.device("cpu"))


@pytest.fixture(scope="package")
def adapter(resident) -> AdapterWeights:
    """An adapter that changes the answers: B is not zero."""
    weights = resident.linears.new_adapter(LoraSpec(rank=4, alpha=8))
    weights.initialise(torch.Generator().manual_seed(1))
    for b in weights.B.values():
        b.copy_(torch.randn(b.shape, generator=torch.Generator().manual_seed(b.numel())) * 0.3)
    weights.refresh()
    return weights
