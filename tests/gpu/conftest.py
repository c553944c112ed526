"""What the tests of the GPU's own paths share: a reason to be skipped, and small bases on either device."""

import pytest
import torch

from app.contracts.specs import BaseRef, LoraSpec
from tests.support.tiny_decoders import build_tiny_decoder
from workers.engine.base_model import ResidentBase, load_base
from workers.engine.training.lora import AdapterWeights

ON_A_GPU = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and this machine has none"),
]
CPU, GPU = torch.device("cpu"), torch.device("cuda")


def load(ref: BaseRef, device: torch.device, dtype: str) -> ResidentBase:
    """The base on a device, in `float32` or `bfloat16`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNESMITH_ENGINE_DTYPE", dtype)
        return load_base(ref, device)


def relative(ours: torch.Tensor, reference: torch.Tensor) -> float:
    """|ours - reference| / |reference|, worked out on the CPU in fp64; NaN where there is one."""
    wide = reference.detach().cpu().double()
    return float((ours.detach().cpu().double() - wide).norm() / wide.norm())


def moved_adapter(resident: ResidentBase, **changes: object) -> AdapterWeights:
    """An adapter of which no weight is zero, the same on every device."""
    adapter = resident.linears.new_adapter(LoraSpec.model_validate({"rank": 8, "alpha": 16} | changes))
    adapter.initialise(torch.Generator().manual_seed(3))
    with torch.no_grad():
        noise = torch.randn(adapter.flat.shape, generator=torch.Generator().manual_seed(4)) * 0.02
        adapter.flat.add_(noise.to(adapter.flat.device))
    adapter.refresh()
    return adapter


@pytest.fixture(scope="session")
def decoder_ref(tmp_path_factory: pytest.TempPathFactory) -> BaseRef:
    """A Llama of two layers with heads of 64, two of which share their keys; weights of a usual size."""
    return build_tiny_decoder(
        tmp_path_factory.mktemp("bases") / "llama",
        "llama",
        hidden_size=256,
        intermediate_size=512,
        head_dim=64,
        initializer_range=0.05,
        context_length=1024,
    )


@pytest.fixture(scope="session")
def on_cpu(decoder_ref: BaseRef) -> ResidentBase:
    return load(decoder_ref, CPU, "float32")


@pytest.fixture(scope="session")
def on_gpu(decoder_ref: BaseRef) -> ResidentBase:
    """In bf16, as an engine has it."""
    return load(decoder_ref, GPU, "bfloat16")


@pytest.fixture(scope="session")
def on_gpu_fp32(decoder_ref: BaseRef) -> ResidentBase:
    return load(decoder_ref, GPU, "float32")


@pytest.fixture(autouse=True)
def engine_dtype_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """No order from outside: the engine chooses as it would in service."""
    monkeypatch.delenv("TUNESMITH_ENGINE_DTYPE", raising=False)
