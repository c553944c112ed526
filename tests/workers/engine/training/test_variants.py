"""LoRA, rsLoRA and DoRA against PEFT: same files, same outputs, same gradients."""

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from app.contracts.specs import LoraSpec
from tests.workers.engine.conftest import ticket_rows, train_spec
from workers.engine.recipes.chat import encode_rows
from workers.engine.training import batches
from workers.engine.training.adapter_files import encode_adapter, load_adapter
from workers.engine.training.loop import train
from workers.engine.training.lora import activate, wrap_linears
from workers.engine.training.loss import batch_loss
from workers.engine.training.synced_files import write_file

VARIANTS = ("lora", "rslora", "dora")
TOKENS = torch.arange(3, 40).unsqueeze(0)
# peft 0.21 asks transformers 5 for a property it deprecates
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")


def moved_adapter(linears, variant, *, seed=0, dropout=0.0):
    adapter = linears.new_adapter(LoraSpec(variant=variant, rank=4, alpha=8, dropout=dropout))
    generator = torch.Generator().manual_seed(seed)
    adapter.initialise(generator)
    with torch.no_grad():
        for b in adapter.B.values():
            b.copy_(torch.randn(b.shape, generator=generator) * 0.3)
        for magnitude in adapter.magnitudes.values():
            magnitude.mul_(1 + torch.rand(magnitude.shape, generator=generator))
    adapter.refresh()
    return adapter


def save_adapter(adapter, folder):
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in encode_adapter(adapter, "tiny").items():
        write_file(folder / name, data)
    return folder


@torch.no_grad()
def logits(resident, adapters, tokens=TOKENS):
    with activate(resident.linears, adapters):
        return resident.model(tokens).logits


def load_with_peft(tiny, folder, *, is_trainable=False):
    base = AutoModelForCausalLM.from_pretrained(tiny.ref.path, dtype=torch.float32)
    return PeftModel.from_pretrained(base, folder, is_trainable=is_trainable)


@pytest.mark.parametrize("variant", VARIANTS)
def test_peft_loads_the_variant_and_gives_equal_logits(tiny, tmp_path, variant):
    adapter = moved_adapter(tiny.linears, variant)
    model = load_with_peft(tiny, save_adapter(adapter, tmp_path / "adapter")).eval()
    with torch.no_grad():
        theirs = model(TOKENS).logits
    ours = logits(tiny, adapter)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    assert (ours - logits(tiny, None)).abs().max() > 0.1


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_gradients_are_those_of_peft(tiny, tmp_path, variant):
    adapter = moved_adapter(tiny.linears, variant)
    model = load_with_peft(tiny, save_adapter(adapter, tmp_path / "adapter"), is_trainable=True)
    (row,) = encode_rows(tiny, ticket_rows(1), max_length=256).rows
    ids = torch.from_numpy(row.input_ids.astype("int64"))[None]
    labels = torch.where(torch.from_numpy(row.is_supervised)[None], ids, -100)
    torch.autograd.backward(model(ids, labels=labels).loss)
    adapter.zero_grad()
    (batch,) = batches.pack([row], 10_000)
    with activate(tiny.linears, adapter):
        loss = batch_loss(tiny, batch)
        torch.autograd.backward(loss.nll_sum / loss.count)
    theirs = {
        name.removeprefix("base_model.model.").replace(".default", ""): leaf.grad
        for name, leaf in model.named_parameters()
        if leaf.requires_grad
    }
    ours = {f"{name}.lora_A.weight": grad for name, grad in adapter.grad_a.items()}
    ours |= {f"{name}.lora_B.weight": grad for name, grad in adapter.grad_b.items()}
    ours |= {f"{name}.lora_magnitude_vector.weight": leaf.grad for name, leaf in adapter.magnitudes.items()}
    assert ours.keys() == theirs.keys()
    for name, gradient in theirs.items():
        assert gradient.norm() > 0, name
        atol = 1e-6 + 1e-4 * float(gradient.abs().max())  # sums that cancel keep the rounding of their parts
        torch.testing.assert_close(ours[name], gradient, rtol=1e-3, atol=atol)


def layer_with_bias():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(12, 20, bias=True))


@pytest.mark.parametrize("variant", VARIANTS)
def test_bias_and_dropout_work_as_in_peft(variant):
    """PEFT's dropout layer is given our mask."""
    module = layer_with_bias()
    linears = wrap_linears(module, None)
    adapter = moved_adapter(linears, variant, dropout=0.5)
    config = LoraConfig(
        r=4,
        lora_alpha=8,
        lora_dropout=0.5,
        target_modules=["0"],
        use_dora=variant == "dora",
        use_rslora=variant == "rslora",
    )
    peft_model = get_peft_model(layer_with_bias(), config).train()
    theirs = peft_model.base_model.model[0]
    with torch.no_grad():
        theirs.lora_A["default"].weight.copy_(adapter.A["0"])
        theirs.lora_B["default"].weight.copy_(adapter.B["0"])
        if variant == "dora":
            theirs.lora_magnitude_vector["default"].weight.copy_(adapter.magnitudes["0"])
    x = torch.randn(9, 12)
    linears.active.dropout_key = (1, 2)
    keep = module[0]._keep_mask(x, 0.5, 0)
    theirs.lora_dropout["default"].forward = lambda value: value * keep
    ours_x, theirs_x = x.clone().requires_grad_(True), x.clone().requires_grad_(True)
    direction = torch.randn(9, 20)
    adapter.zero_grad()
    with activate(linears, adapter, dropout_key=(1, 2)):
        ours_y = module(ours_x)
        torch.autograd.backward((ours_y * direction).sum())
    theirs_y = peft_model(theirs_x)
    torch.autograd.backward((theirs_y * direction).sum())
    assert (keep == 0).any()
    torch.testing.assert_close(ours_y, theirs_y, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours_x.grad, theirs_x.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(adapter.grad_a["0"], theirs.lora_A["default"].weight.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(adapter.grad_b["0"], theirs.lora_B["default"].weight.grad, rtol=1e-4, atol=1e-5)
    if variant == "dora":
        found, wanted = adapter.magnitudes["0"].grad, theirs.lora_magnitude_vector["default"].weight.grad
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_fresh_adapter_changes_nothing(tiny, variant):
    adapter = tiny.linears.new_adapter(LoraSpec(variant=variant, rank=4, alpha=8))
    adapter.initialise(torch.Generator().manual_seed(0))
    torch.testing.assert_close(logits(tiny, adapter), logits(tiny, None), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("variant", ["rslora", "dora"])
def test_a_variant_saved_loads_to_the_same_bits(tiny, tmp_path, variant):
    adapter = moved_adapter(tiny.linears, variant)
    loaded = load_adapter(tiny.linears, save_adapter(adapter, tmp_path / "adapter"))
    assert torch.equal(loaded.flat, adapter.flat)
    assert (loaded.variant, loaded.scaling) == (variant, 4.0 if variant == "rslora" else 2.0)


def test_an_adapter_that_peft_made_loads_here(tiny, tmp_path):
    base = AutoModelForCausalLM.from_pretrained(tiny.ref.path, dtype=torch.float32)
    config = LoraConfig(
        r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"], use_dora=True, init_lora_weights=False
    )
    model = get_peft_model(base, config).eval()
    model.save_pretrained(tmp_path)
    with torch.no_grad():
        theirs = model(TOKENS).logits
    adapter = load_adapter(tiny.linears, tmp_path)
    torch.testing.assert_close(logits(tiny, adapter), theirs, rtol=1e-5, atol=1e-5)


def test_adapters_of_all_variants_share_a_batch(tiny):
    adapters = [moved_adapter(tiny.linears, variant, seed=seed) for seed, variant in enumerate(VARIANTS)]
    length = TOKENS.shape[1]
    ranges = [(adapter, row * length, (row + 1) * length) for row, adapter in enumerate(adapters)]
    mixed = logits(tiny, ranges, TOKENS.expand(3, -1).contiguous())
    for row, adapter in enumerate(adapters):
        torch.testing.assert_close(mixed[row : row + 1], logits(tiny, adapter), rtol=1e-5, atol=1e-5)


def test_row_lengths_first_used_in_inference_serve_training_too(tiny):
    adapter = moved_adapter(tiny.linears, "dora")
    with torch.inference_mode(), activate(tiny.linears, adapter):
        tiny.model(TOKENS)
    with activate(tiny.linears, adapter):
        torch.autograd.backward(tiny.model(TOKENS).logits.sum())
    assert adapter.gradient.norm() > 0


def of_kind(reports, kind):
    return [report for report in reports if report.kind == kind]


@pytest.mark.parametrize("variant", ["rslora", "dora"])
def test_a_variant_trains_moves_its_weights_and_resumes_exactly(tiny, tmp_path, variant):
    lora = {"variant": variant, "rank": 4, "alpha": 8, "dropout": 0.1}
    whole = []
    train(tiny, train_spec(tiny.ref, tmp_path / "whole", lora=lora), whole.append, lambda: None)
    spec = train_spec(tiny.ref, tmp_path / "parts", lora=lora, resume_checkpoint_seconds=1000)
    reports = []
    train(tiny, spec, reports.append, lambda: "pause" if len(of_kind(reports, "metric")) >= 2 else None)
    resumed = spec.model_copy(update={"resume_from": of_kind(reports, "checkpoint")[-1].path})
    train(tiny, resumed, reports.append, lambda: None)
    (finished,), (again,) = of_kind(whole, "finished"), of_kind(reports, "finished")
    assert finished.adapter_sha256 == again.adapter_sha256
    assert of_kind(whole, "metric")[-1].train_loss < of_kind(whole, "metric")[0].train_loss
    if variant == "dora":
        trained = load_file(f"{finished.adapter_path}/adapter_model.safetensors")
        for name, layer in tiny.linears.layers.items():
            start = layer.squared_row_lengths.sqrt()
            assert not torch.equal(trained[f"base_model.model.{name}.lora_magnitude_vector"], start)
