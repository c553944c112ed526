"""The loss and the gradients of packed rows on the GPU: those of the rows alone, and those of the CPU in fp32."""

import pytest
import torch

from tests.gpu.conftest import ON_A_GPU, moved_adapter, relative
from tests.workers.engine.conftest import ticket_rows
from workers.engine.recipes.chat import encode_rows
from workers.engine.training import batches
from workers.engine.training.fused_layers import is_fused
from workers.engine.training.lora import activate
from workers.engine.training.loss import batch_loss

pytestmark = ON_A_GPU
VARIANTS = [{}, {"variant": "dora"}]


def loss_and_gradient(resident, token_budget, variant):
    adapter = moved_adapter(resident, **variant)
    rows = encode_rows(resident, ticket_rows(9), max_length=256).rows
    packs = batches.pack(rows, token_budget)
    losses = []
    for batch in packs:
        with activate(resident.linears, adapter):
            loss = batch_loss(resident, batch.to(resident.device))
            torch.autograd.backward(loss.nll_sum)
        losses.append(loss.nll_sum.detach())
    return torch.stack(losses).sum(), adapter.gradient.clone(), len(packs)


@pytest.mark.parametrize("variant", VARIANTS, ids=["lora", "dora"])
def test_in_fp32_the_gpu_gives_the_cpus_loss_and_gradient(on_cpu, on_gpu_fp32, variant):
    reference, gradient, _ = loss_and_gradient(on_cpu, 10_000, variant)
    ours, ours_gradient, _ = loss_and_gradient(on_gpu_fp32, 10_000, variant)
    assert relative(ours, reference) < 1e-5
    assert relative(ours_gradient, gradient) < 1e-4


@pytest.mark.parametrize("variant", VARIANTS, ids=["lora", "dora"])
def test_in_bf16_packed_rows_have_the_loss_and_gradient_of_the_rows_alone_and_of_fp32(
    on_cpu, on_gpu, record_property, variant
):
    assert on_gpu.dtype == torch.bfloat16
    assert sum(is_fused(module) for module in on_gpu.model.modules()) == 2
    reference, gradient, _ = loss_and_gradient(on_cpu, 10_000, variant)
    whole, whole_gradient, one = loss_and_gradient(on_gpu, 10_000, variant)
    alone, alone_gradient, many = loss_and_gradient(on_gpu, 1, variant)
    assert (one, many) == (1, 9)
    found = [
        relative(whole, reference),
        relative(alone, whole),
        relative(whole_gradient, gradient),
        relative(alone_gradient, gradient),
        relative(alone_gradient, whole_gradient),
    ]
    record_property("loss to fp32, alone to packed; gradient to fp32, alone to fp32, alone to packed", found)
    # bf16 keeps 8 bits: single values are rounded by up to 0.4 %.
    assert max(found[:2]) < 5e-3, found
    assert max(found[2:]) < 3e-2, found
