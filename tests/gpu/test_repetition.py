"""The same run twice, and a run that is stopped and goes on: how far apart their weights end."""

from pathlib import Path

import torch
from safetensors.torch import load_file

from tests.gpu.conftest import ON_A_GPU, relative
from tests.invariants.recipe_runs import CHAT, make_spec, run

pytestmark = ON_A_GPU
SETTINGS = {"rows": 24, "valid": 4, "n_epochs": 3}


def weights(found):
    """All weights of a run's result, as one vector."""
    tensors = load_file(Path(found.finished.adapter_path) / "adapter_model.safetensors")
    return torch.cat([tensors[name].flatten().float() for name in sorted(tensors)])


def stopped_and_resumed(resident, folder):
    polls = 0

    def stop_half_way():
        nonlocal polls
        polls += 1
        return "pause" if polls > 50 else None

    spec = make_spec(CHAT, resident, folder, **SETTINGS)
    first = run(resident, spec, stop_half_way)
    assert first.reports[-1].kind == "stopped"
    assert 0 < first.reports[-1].step < 18
    return run(resident, spec.model_copy(update={"resume_from": str(folder / "out" / "checkpoints")}))


def spreads(resident, tmp_path):
    """Relative difference of the weights: of a second run, and of a stopped one, to a first run."""
    first = weights(run(resident, make_spec(CHAT, resident, tmp_path / "first", **SETTINGS)))
    again = weights(run(resident, make_spec(CHAT, resident, tmp_path / "again", **SETTINGS)))
    return relative(again, first), relative(weights(stopped_and_resumed(resident, tmp_path / "stopped")), first)


def test_in_fp32_equal_seeds_and_a_resumed_run_give_the_same_bits(on_gpu_fp32, tmp_path):
    assert spreads(on_gpu_fp32, tmp_path) == (0.0, 0.0)


def test_in_bf16_a_resumed_run_is_as_near_as_a_second_run_of_the_same_seed(on_gpu, tmp_path, record_property):
    """Flash attention adds up its gradients in the order in which they come, so bits may differ."""
    found = spreads(on_gpu, tmp_path)
    record_property("spread of equal seeds, of a resumed run", found)
    assert max(found) < 2e-2, found
