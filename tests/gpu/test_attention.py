"""Packed attention on the GPU against each row alone in fp32: what comes out, and every gradient."""

from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from tests.gpu.conftest import GPU, ON_A_GPU, relative
from workers.engine.training.attention import attention_forward, packed

pytestmark = ON_A_GPU
LENGTHS = (1, 130, 257, 64, 40)


def heads(count, tokens, width, dtype, seed):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(1, count, tokens, width, generator=generator)
    return values.to(dtype).to(GPU).requires_grad_(True)


def rows_alone(query, key, value, lengths, key_lengths, *, is_causal):
    """The same in fp32, one row at a time, on leaves that hold the very numbers."""
    leaves = [t.detach().float().requires_grad_(True) for t in (query, key, value)]
    groups = query.shape[1] // key.shape[1]
    wide = [leaves[0], *(t.repeat_interleave(groups, dim=1) for t in leaves[1:])]
    parts = [
        scaled_dot_product_attention(q, k, v, is_causal=is_causal)
        for q, k, v in zip(
            wide[0].split(lengths, 2), wide[1].split(key_lengths, 2), wide[2].split(key_lengths, 2), strict=True
        )
    ]
    return torch.cat(parts, 2).transpose(1, 2), leaves


def differences(tensors, lengths, key_lengths, *, is_causal, memory_lengths=None):
    """Of the output and the gradients of query, key and value, relative to rows alone in fp32."""
    module = SimpleNamespace(is_causal=is_causal)
    with packed(lengths, GPU, memory_lengths=memory_lengths):
        ours, _ = attention_forward(module, *tensors, None)
    reference, leaves = rows_alone(*tensors, lengths, key_lengths, is_causal=is_causal)
    weights = torch.randn(reference.shape, generator=torch.Generator().manual_seed(9)).to(GPU)
    (ours.float() * weights).sum().backward()
    (reference * weights).sum().backward()
    pairs = [(ours, reference), *((t.grad, leaf.grad) for t, leaf in zip(tensors, leaves, strict=True))]
    return [relative(*pair) for pair in pairs]


@pytest.mark.parametrize("is_causal", [True, False], ids=["causal", "both ways"])
@pytest.mark.parametrize("kv_heads", [8, 2], ids=["own keys", "shared keys"])
@pytest.mark.parametrize("width", [64, 128, 80, 256, 320, 8])
def test_packed_rows_in_16_bits_are_the_rows_alone_in_fp32(width, kv_heads, is_causal):
    tokens = sum(LENGTHS)
    tensors = [heads(n, tokens, width, torch.bfloat16, seed) for seed, n in enumerate((8, kv_heads, kv_heads))]
    found = differences(tensors, LENGTHS, LENGTHS, is_causal=is_causal)
    assert all(one < 1e-2 for one in found), found


@pytest.mark.parametrize("is_causal", [True, False], ids=["causal", "both ways"])
def test_packed_rows_in_fp32_which_flash_attention_does_not_compute_are_the_rows_alone(is_causal):
    tensors = [heads(n, sum(LENGTHS), 64, torch.float32, seed) for seed, n in enumerate((8, 2, 2))]
    found = differences(tensors, LENGTHS, LENGTHS, is_causal=is_causal)
    assert all(one < 1e-5 for one in found), found


def test_each_row_of_a_decoder_reads_its_own_row_of_the_encoder():
    memory = (33, 5, 190, 1, 70)
    query = heads(4, sum(LENGTHS), 64, torch.bfloat16, 0)
    key, value = (heads(4, sum(memory), 64, torch.bfloat16, seed) for seed in (1, 2))
    found = differences([query, key, value], LENGTHS, memory, is_causal=False, memory_lengths=memory)
    assert all(one < 1e-2 for one in found), found
