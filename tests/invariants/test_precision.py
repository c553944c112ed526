"""Adapters, heads and Adam's moments are fp32 whatever the base computes in, and small updates are not lost."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from app.contracts.errors import WorkerFailure
from tests.invariants.recipe_runs import CHAT, build_base, make_spec, run, started_adapter
from tests.support.tiny_models import build_tiny_base
from workers.engine.base_model import load_base
from workers.engine.training.adapter_files import weights_sha256

CPU = torch.device("cpu")


@pytest.fixture
def bf16_resident(job, tmp_path, monkeypatch):
    monkeypatch.setenv("TUNESMITH_ENGINE_DTYPE", "bfloat16")
    return load_base(build_base(job, tmp_path / "base"), CPU)


def test_adapters_heads_and_moments_are_fp32_over_a_bf16_base(job, bf16_resident, tmp_path):
    assert {p.dtype for p in bf16_resident.model.parameters()} == {torch.bfloat16}
    run(bf16_resident, make_spec(job, bf16_resident, tmp_path / "run"))
    files = list((tmp_path / "run").rglob("*.safetensors"))
    assert {file.name for file in files} == {"adapter_model.safetensors", "optimizer.safetensors"}
    assert {tensor.dtype for file in files for tensor in load_file(file).values()} == {torch.float32}


def test_updates_far_below_the_steps_of_bf16_are_kept_over_a_bf16_base(job, bf16_resident, tmp_path):
    """Weights near 1 are 0.004 apart in bf16; here they move by 0.00001 a step."""
    start = started_adapter(job, bf16_resident, tmp_path / "start")
    path = f"{start['path']}/adapter_model.safetensors"
    ones = {name: torch.ones_like(tensor) if ".lora_A." in name else tensor for name, tensor in load_file(path).items()}
    save_file(ones, path, metadata={"format": "pt"})
    start["sha256"] = weights_sha256(tmp_path / "start" / "out" / "checkpoints" / "step-000006" / "adapter")
    rate = 1e-5
    spec = make_spec(
        job,
        bf16_resident,
        tmp_path / "run",
        initial_adapter=start,
        lora={"rank": 4, "alpha": 8},
        optimizer={"learning_rate": rate, "schedule": "constant", "warmup_fraction": 0},
    )
    found = run(bf16_resident, spec)
    after = load_file(f"{found.finished.adapter_path}/adapter_model.safetensors")
    moved = torch.cat([(after[name] - 1).flatten() for name in after if ".lora_A." in name])
    steps = len(found.metrics)
    assert (moved != 0).float().mean() > 0.95  # a unit that never fires has no gradient
    assert rate / 10 < moved.abs().mean() <= 1.1 * rate * steps
    assert bool(((1 + moved).to(torch.bfloat16) == 1).all())  # what bf16 masters would have kept of it


@pytest.mark.parametrize("job", [CHAT], ids=["chat"])
def test_a_bf16_base_has_the_losses_of_an_fp32_base(job, tiny, bf16_resident, tmp_path):
    def losses(base, name):
        spec = make_spec(job, base, tmp_path / name, lora={"rank": 4}, optimizer={"learning_rate": 1e-3})
        return [metric.train_loss for metric in run(base, spec).metrics]

    assert losses(bf16_resident, "bf16") == pytest.approx(losses(tiny, "fp32"), rel=0.02)


def test_fp16_is_never_computed_in(monkeypatch, tmp_path):
    """Its gradients need scaling and its range is small: a base stored in it is trained in another format."""
    ref = build_tiny_base(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float16)
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "float16"
    resident = load_base(ref, CPU)
    assert {p.dtype for p in resident.model.parameters()} == {torch.float32}
    monkeypatch.setenv("TUNESMITH_ENGINE_DTYPE", "float16")
    with pytest.raises(WorkerFailure) as failure:
        load_base(ref, CPU)
    assert failure.value.error.code == "engine_misconfigured"


def test_without_an_order_the_engine_computes_in_bf16_or_fp32(monkeypatch, tmp_path):
    monkeypatch.delenv("TUNESMITH_ENGINE_DTYPE")
    resident = load_base(build_tiny_base(tmp_path / "base"), CPU)
    assert resident.dtype in {torch.bfloat16, torch.float32}
    found = run(resident, make_spec(CHAT, resident, tmp_path / "run", rows=4, n_epochs=1))
    saved = load_file(f"{found.finished.adapter_path}/adapter_model.safetensors")
    assert {tensor.dtype for tensor in saved.values()} == {torch.float32}
