"""Whole runs on the GPU: every recipe ends where the CPU ends, and the engine's process does as it does there."""

import pytest
import torch

from app.contracts.specs import LoraSpec
from tests.gpu.conftest import CPU, GPU, ON_A_GPU, load
from tests.invariants.recipe_runs import CHAT, JOBS, TEXT, RecipeJob, build_base, make_spec, run
from tests.support.engine_process import CPU_FP32, EngineProcess

pytestmark = ON_A_GPU
WITHOUT_DROPOUT = {"lora": LoraSpec(rank=4, alpha=8)}


def losses(found):
    return torch.tensor([[m.train_loss, m.full_valid_loss or 0.0] for m in found.metrics], dtype=torch.float64)


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)
def test_every_recipe_has_the_cpus_losses_step_by_step(job: RecipeJob, tmp_path, record_property):
    ref = build_base(job, tmp_path / "base")
    found = {}
    for name, device, dtype in (("cpu", CPU, "float32"), ("fp32", GPU, "float32"), ("bf16", GPU, "bfloat16")):
        resident = load(ref, device, dtype)
        spec = make_spec(job, resident, tmp_path / name, valid=4, **WITHOUT_DROPOUT)
        found[name] = losses(run(resident, spec))
    worst = {name: float((found[name] / found["cpu"] - 1).nan_to_num(0).abs().max()) for name in ("fp32", "bf16")}
    record_property("largest relative difference of a loss", worst)
    assert torch.isfinite(found["cpu"]).all()
    assert worst["fp32"] < 1e-3, worst
    # Weights of these bases are ten times as large as usual ones, and so is what bf16 rounds away.
    assert worst["bf16"] < 0.1, worst


@pytest.mark.parametrize("targets", ["adapter", "full"])
def test_dropout_and_all_weights_are_trained_on_the_gpu_too(on_gpu, tmp_path, targets):
    found = run(on_gpu, make_spec(CHAT, on_gpu, tmp_path, rows=16, n_epochs=4, tuning=targets))
    assert found.metrics[-1].train_loss < found.metrics[0].train_loss
    assert found.finished.step == 16


@pytest.fixture(scope="module")
def process():
    with EngineProcess(TUNESMITH_ENGINE_DTYPE="bfloat16") as engine:
        (ready,) = engine.read_until("ready")
        assert (ready.device, ready.dtype) == ("cuda:0", "bfloat16")
        assert ready.memory_bytes == torch.cuda.get_device_properties(0).total_memory
        yield engine


@pytest.mark.parametrize("job", [CHAT, TEXT], ids=["decoder", "encoder"])
def test_a_run_of_the_engines_process_ends_at_the_loss_of_the_cpus(process, job: RecipeJob, tmp_path, record_property):
    resident = load(build_base(job, tmp_path / "base"), CPU, "float32")
    ends = []
    with EngineProcess(**CPU_FP32) as reference:
        reference.read_until("ready")
        for engine, name in ((process, "gpu"), (reference, "cpu")):
            engine.send(make_spec(job, resident, tmp_path / name, n_epochs=4, **WITHOUT_DROPOUT))
            reports = engine.read_until("finished", "failed")
            assert reports[-1].kind == "finished", reports[-1]
            ends.append(reports[-1].train_loss)
    record_property("last loss on GPU and CPU", ends)
    assert ends[0] == pytest.approx(ends[1], rel=0.1)
