from contextlib import contextmanager

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, Qwen2Config, Qwen2ForCausalLM
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from app.contracts.specs import LoraSpec
from tests.support.tiny_models import build_tiny_model
from tests.workers.engine.conftest import train_spec
from workers.engine.base_model import make_resident
from workers.engine.training import attention
from workers.engine.training.attention import packed
from workers.engine.training.fused_nodes import Norm
from workers.engine.training.loop import train
from workers.engine.training.lora import activate

LENGTHS = (7, 1, 30, 12)
TOKENS = sum(LENGTHS)


def resident_of(model, tiny):
    attention.register()
    model.set_attn_implementation(attention.NAME)
    model.requires_grad_(False)
    model.eval()
    return make_resident(tiny.ref, "decoder", model, tiny.tokenizer, dtype=torch.float32, quantization="none")


def fused_layers(resident):
    return [m for m in resident.model.modules() if "forward" in vars(m)]


@contextmanager
def as_transformers_has_it(resident):
    layers = fused_layers(resident)
    forwards = [layer.forward for layer in layers]
    for layer in layers:
        del layer.forward
    yield
    for layer, forward in zip(layers, forwards, strict=True):
        layer.forward = forward


@pytest.fixture(scope="module")
def qwen(tiny):
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=tiny.vocab_size,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.2,
    )
    model = Qwen2ForCausalLM(config)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter)
    return resident_of(model, tiny)


def adapter_of(resident, seed, rank=4, targets="all-linear", **changes):
    adapter = resident.linears.new_adapter(LoraSpec(rank=rank, alpha=8, targets=targets, **changes))
    generator = torch.Generator().manual_seed(seed)
    adapter.initialise(generator)
    for b in adapter.B.values():
        b.copy_(torch.randn(b.shape, generator=generator) * 0.3)
    adapter.refresh()
    return adapter


def forward(resident, adapters, **options):
    ids = torch.randint(3, resident.vocab_size, (1, TOKENS), generator=torch.Generator().manual_seed(5))
    positions = torch.cat([torch.arange(n) for n in LENGTHS]).unsqueeze(0)
    with activate(resident.linears, adapters, **options), packed(LENGTHS, resident.device):
        return resident.backbone(ids, positions)


def run(resident, active, adapters, **options):
    """Hidden states and the gradients of all adapters."""
    for adapter in adapters:
        adapter.zero_grad()
    hidden = forward(resident, active, **options)
    (hidden * torch.randn(hidden.shape, generator=torch.Generator().manual_seed(6))).sum().backward()
    return hidden.detach(), [adapter.gradient.clone() for adapter in adapters]


def assert_equal_to_plain(resident, active, adapters, **options):
    hidden, gradients = run(resident, active, adapters, **options)
    with as_transformers_has_it(resident):
        plain_hidden, plain_gradients = run(resident, active, adapters, **options)
    assert all(gradient.abs().max() > 0.01 for gradient in gradients)
    for one, other in zip([hidden, *gradients], [plain_hidden, *plain_gradients], strict=True):
        assert (one - other).norm() / other.norm() < 1e-5


@pytest.mark.parametrize("base", ["tiny", "qwen"])
@pytest.mark.parametrize("targets", ["all-linear", ("q_proj", "v_proj"), ("down_proj",), ("o_proj", "up_proj")])
def test_a_fused_layer_gives_the_plain_one_s_output_and_gradients(request, base, targets):
    resident = request.getfixturevalue(base)
    assert len(fused_layers(resident)) == 2
    adapter = adapter_of(resident, 1, targets=targets)
    assert_equal_to_plain(resident, adapter, [adapter])


def test_several_adapters_and_the_bare_base_share_a_fused_batch(tiny):
    first, second = adapter_of(tiny, 1), adapter_of(tiny, 2, rank=2, targets=("k_proj", "gate_proj"), variant="rslora")
    active = [(first, 0, 8), (None, 8, 20), (second, 20, TOKENS)]
    assert_equal_to_plain(tiny, active, [first, second])


def test_the_bare_base_and_forward_only_passes_are_the_plain_ones(tiny):
    adapter = adapter_of(tiny, 1)
    with torch.no_grad():
        for active in (None, adapter):
            hidden = forward(tiny, active)
            with as_transformers_has_it(tiny):
                torch.testing.assert_close(hidden, forward(tiny, active), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("changes", [{"dropout": 0.3}, {"variant": "dora"}])
def test_what_a_fused_layer_cannot_do_is_left_to_the_plain_one(tiny, changes):
    adapter = adapter_of(tiny, 1, **changes)
    assert_equal_to_plain(tiny, adapter, [adapter], dropout_key=(1, 2))


def test_one_model_s_broken_numbers_stay_in_its_own_tokens(tiny):
    sound, broken = adapter_of(tiny, 1), adapter_of(tiny, 2)
    active = [(sound, 0, 8), (broken, 8, TOKENS)]
    _, (expected, _) = run(tiny, active, [sound, broken])
    broken.flat.data.fill_(float("nan"))
    broken.refresh()
    for adapter in (sound, broken):
        adapter.zero_grad()
    hidden = forward(tiny, active)
    hidden[:, :8].mul(torch.randn(hidden.shape, generator=torch.Generator().manual_seed(6))[:, :8]).sum().backward()
    assert torch.isfinite(hidden[:, :8]).all()
    torch.testing.assert_close(sound.gradient, expected)


def test_no_gradient_is_worked_out_for_the_first_layer_s_input(tiny, monkeypatch):
    adapter = adapter_of(tiny, 1)
    calls = 0
    backward = Norm.backward

    def counted(*arguments):
        nonlocal calls
        calls += 1
        return backward(*arguments)

    monkeypatch.setattr(Norm, "backward", counted)
    run(tiny, adapter, [adapter])
    assert calls == 3  # two layers with two norms each, but the very first


class _ShiftedNorm(LlamaRMSNorm):
    """As Gemma's: a Llama norm by its parts, not by its numbers."""

    def forward(self, hidden_states):
        return super().forward(hidden_states) + hidden_states


def test_a_layer_that_only_looks_like_llama_s_stays_as_it_is(tiny, capsys):
    model = build_tiny_model(tiny.vocab_size)
    for layer in model.model.layers:
        layer.input_layernorm.__class__ = _ShiftedNorm
    assert not fused_layers(resident_of(model, tiny))
    assert "stays as it is" in capsys.readouterr().err


def test_another_architecture_stays_as_it_is(tiny):
    model = GPT2LMHeadModel(GPT2Config(vocab_size=tiny.vocab_size, n_embd=32, n_layer=1, n_head=2))
    assert not fused_layers(resident_of(model, tiny))


def test_a_fused_run_resumed_after_any_step_ends_as_the_unbroken_one(tiny, tmp_path):
    hashes = set()
    for stop_after in (0, 1, 2, 3):
        reports = []
        spec = train_spec(tiny.ref, tmp_path / str(stop_after), lora=LoraSpec(rank=4), rows=8)

        def should_stop(reports=reports, stop_after=stop_after):
            return "pause" if sum(r.kind == "metric" for r in reports) == stop_after > 0 else None

        train(tiny, spec, reports.append, should_stop)
        if stop_after:
            assert reports[-1].kind == "stopped"
            folder = str(tmp_path / str(stop_after) / "out" / "checkpoints")
            train(tiny, spec.model_copy(update={"resume_from": folder}), reports.append, lambda: None)
        hashes.add(reports[-1].adapter_sha256)
    assert len(hashes) == 1
