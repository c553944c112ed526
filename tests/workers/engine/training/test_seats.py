"""A seat that goes on from a checkpoint."""

import torch

from app.contracts.specs import LoraSpec
from tests.workers.engine.conftest import train_spec
from workers.engine.training import checkpoint
from workers.engine.training.adapter_weights import LowRankWeights
from workers.engine.training.loop import train
from workers.engine.training.seats import Seat


def test_all_of_the_optimisers_state_comes_to_the_device_of_the_weights(tiny, tmp_path):
    """On a GPU the fused optimiser reads its count of steps there too; `meta` stands for any device but the CPU."""
    spec = train_spec(tiny.ref, tmp_path, rows=4, n_epochs=1)
    train(tiny, spec, lambda _report: None, lambda: None)
    found = checkpoint.load_latest(tmp_path / "out" / "checkpoints")
    adapter = LowRankWeights(
        tiny.linears.shapes(), LoraSpec(rank=4, alpha=8), device=torch.device("meta"), compute_dtype=torch.float32
    )
    seat = Seat(
        spec=spec,
        recipe=None,
        adapter=adapter,
        optimizer=torch.optim.AdamW([adapter.flat]),
        rows=(),
        valid_rows=(),
        selection_rows=(),
        token_budget=1,
        report=lambda _report: None,
        should_stop=lambda: None,
    )
    seat.restore(found)
    state = seat.optimizer.state[adapter.flat]
    assert state.keys() == {"step", "exp_avg", "exp_avg_sq"}
    assert {tensor.device.type for tensor in state.values()} == {"meta"}
