"""What can go wrong on a GPU: too little memory, numbers that are none, four bits."""

import importlib.util

import pytest
import torch

from app.contracts.errors import WorkerFailure
from tests.gpu.conftest import CPU, GPU, ON_A_GPU, load, moved_adapter, relative
from tests.invariants.recipe_runs import CHAT, Run, make_spec, run
from tests.support.tiny_decoders import build_tiny_decoder
from tests.workers.engine.conftest import ticket_rows
from workers.engine.base_model import load_base
from workers.engine.engine import Engine, StopSignal
from workers.engine.machine import release_memory
from workers.engine.recipes.chat import encode_rows
from workers.engine.training import batches, memory
from workers.engine.training.loop import train
from workers.engine.training.lora import activate
from workers.engine.training.loss import batch_loss
from workers.engine.training.quantised import dense_weight

# bitsandbytes imports an old part of torch
pytestmark = [*ON_A_GPU, pytest.mark.filterwarnings("ignore:.*script_method.*:DeprecationWarning")]
needs_bitsandbytes = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("bitsandbytes", "accelerate")),
    reason="the extra 'qlora' is not installed",
)


@pytest.mark.parametrize("changes", [{}, {"tuning": "full"}, {"lora": {"rank": 8, "alpha": 16, "dropout": 0.1}}])
def test_the_estimate_is_near_the_memory_that_a_run_takes(tmp_path, record_property, changes):
    ref = build_tiny_decoder(
        tmp_path / "base",
        "llama",
        hidden_size=512,
        intermediate_size=1536,
        num_hidden_layers=8,
        head_dim=64,
        initializer_range=0.02,
        context_length=1024,
    )
    release_memory(GPU)
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    resident = load(ref, GPU, "bfloat16")
    settings = {"lora": {"rank": 8, "alpha": 16}, "token_budget": 4096, "batch_size": 64, "max_length": 1024} | changes
    spec = make_spec(CHAT, resident, tmp_path, rows=128, n_epochs=1, **settings)
    found = run(resident, spec)
    peak = torch.cuda.max_memory_allocated() - before
    planned = memory.plan(resident, spec, lengths=[found.encoded.longest])
    ours = planned.total_bytes - memory.RUNTIME_BYTES["cuda"]
    record_property("estimate and peak in MiB", (ours / 2**20, peak / 2**20))
    assert 0.8 < ours / peak < 1.5, (ours, peak)


def test_a_run_that_runs_out_of_memory_is_told_so_and_the_engine_goes_on(on_gpu, tmp_path):
    reports = []
    engine = Engine(reports.append, device=GPU, resident=on_gpu)
    # Far more than what is free between the base's own tensors.
    spec = make_spec(CHAT, on_gpu, tmp_path, lora={"rank": 256, "alpha": 256})
    release_memory(GPU)
    torch.cuda.set_per_process_memory_fraction(1e-6)
    try:
        engine.run(spec, StopSignal())
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert (reports[-1].kind, reports[-1].error.code) == ("failed", "out_of_memory")
    assert not reports[-1].engine_lost
    engine.run(spec, StopSignal())
    assert reports[-1].kind == "finished"


def test_a_run_that_diverges_on_the_gpu_says_so(on_gpu, tmp_path):
    found = Run()
    spec = make_spec(CHAT, on_gpu, tmp_path, optimizer={"learning_rate": 1e38, "warmup_fraction": 0})
    with pytest.raises(WorkerFailure) as failure:
        train(on_gpu, spec, found.reports.append, lambda: None)
    assert failure.value.error.code == "loss_diverged"


@needs_bitsandbytes
def test_four_bits_stand_for_the_same_weights_as_on_the_cpu_and_are_trained_as_these(decoder_ref, record_property):
    four, on_cpu, dense = (
        load_base(decoder_ref, GPU, "nf4"),
        load_base(decoder_ref, CPU, "nf4"),
        load_base(decoder_ref, GPU),
    )
    for name, layer in four.linears.layers.items():
        weight = dense_weight(layer.base.weight)
        assert layer.weight.dtype == torch.uint8
        assert relative(weight, dense_weight(on_cpu.linears.layers[name].base.weight)) < 1e-2, name
        with torch.no_grad():
            dense.linears.layers[name].base.weight.copy_(weight)
    found = []
    for resident in (four, dense):
        adapter = moved_adapter(resident)
        (batch,) = batches.pack(encode_rows(resident, ticket_rows(5), max_length=256).rows, 10_000)
        with activate(resident.linears, adapter):
            loss = batch_loss(resident, batch.to(GPU))
            torch.autograd.backward(loss.nll_sum)
        found.append((loss.nll_sum, adapter.gradient.clone()))
    differences = relative(found[0][0], found[1][0]), relative(found[0][1], found[1][1])
    record_property("loss and gradient, relative difference", differences)
    assert differences[0] < 5e-3
    assert differences[1] < 3e-2


@needs_bitsandbytes
def test_a_run_over_four_bits_learns_on_the_gpu(decoder_ref, tmp_path):
    reports = []
    engine = Engine(reports.append, device=GPU)
    resident = load_base(decoder_ref, CPU)
    engine.run(make_spec(CHAT, resident, tmp_path, rows=16, n_epochs=4, quantization="nf4"), StopSignal())
    assert reports[-1].kind == "finished", reports[-1]
    losses = [report.train_loss for report in reports if report.kind == "metric"]
    assert losses[-1] < losses[0]
