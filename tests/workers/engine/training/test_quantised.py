"""QLoRA: refused in words where it cannot be, and where bitsandbytes is installed equal to the dense weights."""

import importlib.util

import pytest
import torch

from app.contracts.errors import WorkerFailure
from app.contracts.specs import LoadBase, LoraSpec
from tests.support.tiny_models import build_tiny_base
from tests.workers.engine.conftest import ticket_rows, train_spec
from workers.engine import engine as engine_module
from workers.engine.base_model import load_base
from workers.engine.engine import Engine, StopSignal
from workers.engine.recipes.chat import encode_rows
from workers.engine.training import batches
from workers.engine.training.loop import train
from workers.engine.training.lora import activate
from workers.engine.training.loss import batch_loss
from workers.engine.training.quantised import dense_weight

# bitsandbytes imports an old part of torch
pytestmark = pytest.mark.filterwarnings("ignore:.*script_method.*:DeprecationWarning")
CPU = torch.device("cpu")
needs_bitsandbytes = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("bitsandbytes", "accelerate")),
    reason="the extra 'qlora' is not installed",
)


def test_four_bits_without_a_gpu_are_refused_in_words_and_the_warm_base_stays(tiny, tmp_path):
    reports = []
    engine = Engine(reports.append, device=CPU, resident=tiny)
    engine.run(train_spec(tiny.ref, tmp_path, quantization="nf4"), StopSignal())
    error = reports[-1].error
    assert (error.kind, error.code) == ("usage", "quantization_unavailable")
    assert "a CUDA device" in error.message
    assert engine.resident is tiny


def test_a_base_in_four_bits_is_not_the_base_in_sixteen(tiny, tmp_path, monkeypatch):
    loaded = []

    def load(_ref, _device, quantization):
        loaded.append(quantization)
        return tiny

    monkeypatch.setattr(engine_module, "load_base", load)
    monkeypatch.setattr(engine_module, "require_available", lambda *_: None)
    engine = Engine(lambda _report: None, device=CPU, resident=tiny)
    engine.run(LoadBase(base=tiny.ref), StopSignal())
    assert loaded == []
    engine.run(train_spec(tiny.ref, tmp_path, quantization="nf4"), StopSignal())
    assert loaded == ["nf4"]


@pytest.fixture(scope="module")
def residents(tmp_path_factory):
    """The tiny base in 4 bits, and a dense one that holds the very weights those stand for."""
    ref = build_tiny_base(tmp_path_factory.mktemp("bases") / "four", hidden_size=64)
    quantised = load_base(ref, CPU, "nf4")
    dense = load_base(ref, CPU)
    with torch.no_grad():
        for name, layer in dense.linears.layers.items():
            layer.base.weight.copy_(dense_weight(quantised.linears.layers[name].base.weight))
    return quantised, dense


@needs_bitsandbytes
@pytest.mark.parametrize("variant", ["lora", "dora"])
def test_adapters_over_four_bits_learn_as_over_the_weights_these_stand_for(residents, variant):
    rows = encode_rows(residents[0], ticket_rows(3), max_length=256).rows
    (batch,) = batches.pack(rows, 10_000)
    found = []
    for resident in residents:
        adapter = resident.linears.new_adapter(LoraSpec(variant=variant, rank=4, alpha=8))
        generator = torch.Generator().manual_seed(0)
        adapter.initialise(generator)
        with torch.no_grad():
            for b in adapter.B.values():
                b.copy_(torch.randn(b.shape, generator=generator) * 0.1)
        adapter.refresh()
        with activate(resident.linears, adapter):
            loss = batch_loss(resident, batch)
            torch.autograd.backward(loss.nll_sum)
        found.append((loss.nll_sum.detach(), adapter.gradient))
    assert residents[0].linears.layers.keys() == residents[1].linears.layers.keys()
    assert next(iter(residents[0].linears.layers.values())).weight.dtype == torch.uint8
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-4, atol=1e-4)
    assert (found[0][1] - found[1][1]).norm() < 1e-3 * found[1][1].norm()


@needs_bitsandbytes
def test_a_run_over_four_bits_learns_and_its_weights_alone_cannot_be_trained(residents, tmp_path):
    quantised, _ = residents
    reports = []
    spec = train_spec(quantised.ref, tmp_path, quantization="nf4")
    train(quantised, spec, reports.append, lambda: None)
    losses = [report.train_loss for report in reports if report.kind == "metric"]
    assert losses[-1] < losses[0]
    with pytest.raises(WorkerFailure) as failure:
        train(quantised, spec.model_copy(update={"tuning": "full"}), reports.append, lambda: None)
    assert failure.value.error.code == "tuning_unavailable"
