import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from workers.engine.training import cpu_attention

HEADS, KV_HEADS, WIDTH = 6, 2, 8


def tensors(rows, key_rows):
    generator = torch.Generator().manual_seed(0)
    shapes = ((HEADS, sum(rows)), (KV_HEADS, sum(key_rows)), (KV_HEADS, sum(key_rows)))
    return [torch.randn(*shape, WIDTH, generator=generator).requires_grad_() for shape in shapes]


def by_torch(query, key, value, rows, key_rows, *, is_causal):
    parts = [
        scaled_dot_product_attention(q[None], k[None], v[None], is_causal=is_causal, scale=0.3, enable_gqa=True)[0]
        for q, k, v in zip(query.split(rows, 1), key.split(key_rows, 1), value.split(key_rows, 1), strict=True)
    ]
    return torch.cat(parts, 1).transpose(0, 1)


@pytest.mark.parametrize("kept_longest", [0, 1000])
@pytest.mark.parametrize("block", [4, 128])
@pytest.mark.parametrize(
    ("rows", "key_rows", "is_causal"),
    [
        ((1, 9, 4, 13), (1, 9, 4, 13), True),
        ((1, 9, 4, 13), (1, 9, 4, 13), False),
        ((1, 9, 4), (5, 2, 11), False),
    ],
)
def test_packed_attention_and_its_gradients_are_those_of_each_row_alone(  # noqa: PLR0917
    monkeypatch, rows, key_rows, is_causal, block, kept_longest
):
    monkeypatch.setattr(cpu_attention, "_BLOCK", block)
    monkeypatch.setattr(cpu_attention, "_KEPT_LONGEST", kept_longest)
    ours, theirs = tensors(rows, key_rows), tensors(rows, key_rows)
    output = cpu_attention.attend(*ours, rows, key_rows, scale=0.3, is_causal=is_causal)
    expected = by_torch(*theirs, list(rows), list(key_rows), is_causal=is_causal)
    torch.testing.assert_close(output, expected, rtol=1e-5, atol=1e-6)
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(1))
    (output * weights).sum().backward()
    (expected * weights).sum().backward()
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-5, atol=1e-5)
