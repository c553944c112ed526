"""What is asked of the GPU's attention, on a machine without one: when, and in the words of each version of torch."""

from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from workers.engine.training import attention
from workers.engine.training.attention import attention_forward, packed

CPU = torch.device("cpu")
LENGTHS, MEMORY = (3, 1, 6), (2, 5, 4)


def rows_of(query, key, value, query_starts, key_starts, *, scale, window_size):
    """What torch documents: [T, heads, d] by the rows' starts; (-1, 0) is causal, (-1, -1) is not."""
    assert query_starts.dtype == key_starts.dtype == torch.int32
    groups = query.shape[1] // key.shape[1]
    parts = []
    for (start, end), (key_start, key_end) in zip(
        pairwise(query_starts.tolist()), pairwise(key_starts.tolist()), strict=True
    ):
        q = query[start:end].transpose(0, 1)
        k, v = (t[key_start:key_end].transpose(0, 1).repeat_interleave(groups, 0) for t in (key, value))
        parts.append(scaled_dot_product_attention(q, k, v, scale=scale, is_causal=window_size == (-1, 0)))
    return torch.cat(parts, dim=1).transpose(0, 1)


def of_torch_2_11(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, scale=None, window_size=(-1, -1)):  # noqa: PLR0917
    assert (max_q, max_k) == (max(cu_seq_q.diff()), max(cu_seq_k.diff()))
    return rows_of(query, key, value, cu_seq_q, cu_seq_k, scale=scale, window_size=window_size)


def of_torch_2_13(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, enable_gqa=False, **more):  # noqa: PLR0917
    assert enable_gqa == (query.shape[1] != key.shape[1])
    return of_torch_2_11(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, **more)


@pytest.mark.parametrize(("version", "asks_for_groups"), [(of_torch_2_11, False), (of_torch_2_13, True)])
@pytest.mark.parametrize("kv_heads", [4, 2], ids=["own keys", "shared keys"])
@pytest.mark.parametrize("kind", ["causal", "both ways", "across"])
def test_flash_attention_is_asked_for_the_rows_that_the_cpu_computes(
    monkeypatch, version, asks_for_groups, kv_heads, kind
):
    memory = MEMORY if kind == "across" else None
    generator = torch.Generator().manual_seed(0)
    query, key, value = (
        torch.randn(1, heads, sum(lengths), 8, generator=generator)
        for heads, lengths in ((4, LENGTHS), (kv_heads, memory or LENGTHS), (kv_heads, memory or LENGTHS))
    )
    module = SimpleNamespace(is_causal=kind == "causal")
    with packed(LENGTHS, CPU, memory_lengths=memory):
        expected, _ = attention_forward(module, query, key, value, None, scaling=0.3)
        monkeypatch.setattr(attention, "varlen_attn", version)
        monkeypatch.setattr(attention, "_ASKS_FOR_GROUPS", asks_for_groups)
        monkeypatch.setattr(attention, "_suits_flash", lambda _query: True)
        asked, _ = attention_forward(module, query, key, value, None, scaling=0.3)
    torch.testing.assert_close(asked, expected)


def test_the_installed_torch_is_asked_in_its_own_words():
    """The names that are passed are parameters of the function, whatever the version."""
    code = attention.inspect.signature(attention.varlen_attn).parameters
    assert {"scale", "window_size"} <= code.keys()
    assert ("enable_gqa" in code) == attention._ASKS_FOR_GROUPS


@pytest.mark.parametrize(
    ("dtype", "width", "capability", "suits"),
    [
        (torch.bfloat16, 64, (9, 0), True),
        (torch.bfloat16, 256, (8, 0), True),
        (torch.float32, 64, (9, 0), False),
        (torch.bfloat16, 320, (9, 0), False),
        (torch.bfloat16, 20, (9, 0), False),
        (torch.float16, 64, (7, 5), False),
    ],
)
def test_what_flash_attention_cannot_compute_is_multiplied_row_by_row(monkeypatch, dtype, width, capability, suits):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: capability)
    query = SimpleNamespace(shape=(1, 4, 10, width), dtype=dtype, is_cuda=True, device="cuda:0")
    assert attention._suits_flash(query) is suits


def test_on_the_cpu_flash_attention_is_never_asked():
    assert not attention._suits_flash(torch.empty(1, 4, 10, 64, dtype=torch.bfloat16))
