import json

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from app.contracts.errors import WorkerFailure
from app.contracts.specs import LoraSpec
from workers.engine.training.adapter_files import encode_adapter, load_adapter
from workers.engine.training.lora import activate
from workers.engine.training.synced_files import write_file

TOKENS = torch.arange(3, 40).unsqueeze(0)


def random_adapter(resident, *, seed=0, rank=4):
    adapter = resident.linears.new_adapter(LoraSpec(rank=rank, alpha=8))
    generator = torch.Generator().manual_seed(seed)
    adapter.initialise(generator)
    with torch.no_grad():
        for b in adapter.B.values():
            b.copy_(torch.randn(b.shape, generator=generator) * 0.3)
    adapter.refresh()
    return adapter


def save_adapter(adapter, folder, base_id="tiny"):
    folder.mkdir(exist_ok=True)
    for name, data in encode_adapter(adapter, base_id).items():
        write_file(folder / name, data)
    return folder


@torch.no_grad()
def logits(resident, adapters, tokens=TOKENS):
    with activate(resident.linears, adapters):
        return resident.model(tokens).logits


# peft 0.21 asks transformers 5 for a property it deprecates
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")
def test_peft_loads_the_adapter_unchanged_and_gives_equal_logits(tiny, tmp_path):
    adapter = random_adapter(tiny)
    folder = save_adapter(adapter, tmp_path / "adapter")
    base = AutoModelForCausalLM.from_pretrained(tiny.ref.path, dtype=torch.float32)
    with torch.no_grad():
        theirs = peft.PeftModel.from_pretrained(base, folder)(TOKENS).logits
    ours = logits(tiny, adapter)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    assert (ours - logits(tiny, None)).abs().max() > 0.1
    assert all(tensor.dtype == torch.float32 for tensor in load_file(folder / "adapter_model.safetensors").values())


def test_a_saved_adapter_loads_to_the_same_bits(tiny, tmp_path):
    adapter = random_adapter(tiny)
    loaded = load_adapter(tiny.linears, save_adapter(adapter, tmp_path / "adapter"))
    assert torch.equal(loaded.flat, adapter.flat)


def test_several_adapters_and_the_base_in_one_batch_each_act_on_their_tokens_only(tiny):
    first, second = random_adapter(tiny, seed=1), random_adapter(tiny, seed=2, rank=2)
    batch = TOKENS.expand(3, -1).contiguous()
    length = TOKENS.shape[1]
    ranges = [(first, 0, length), (None, length, 2 * length), (second, 2 * length, 3 * length)]
    mixed = logits(tiny, ranges, batch)
    for row, alone in enumerate((first, None, second)):
        torch.testing.assert_close(mixed[row : row + 1], logits(tiny, alone), rtol=1e-5, atol=1e-5)


def test_only_the_targets_named_are_adapted_and_an_unknown_one_is_the_users_error(tiny):
    adapter = tiny.linears.new_adapter(LoraSpec(targets=("q_proj", "v_proj")))
    assert {name.rsplit(".", 1)[-1] for name in adapter.shapes} == {"q_proj", "v_proj"}
    with pytest.raises(WorkerFailure) as failure:
        tiny.linears.new_adapter(LoraSpec(targets=("lm_head",)))
    assert failure.value.error.code == "unknown_lora_target"


def test_all_linear_layers_but_the_head_are_adapted(tiny):
    names = {name.rsplit(".", 1)[-1] for name in tiny.linears.layers}
    assert names == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


@pytest.mark.parametrize("damage", ["shape", "extra", "missing", "nan", "config", "dora"])
def test_an_adapter_that_does_not_fit_is_refused(tiny, tmp_path, damage):
    folder = save_adapter(random_adapter(tiny), tmp_path / "adapter")
    weights = load_file(folder / "adapter_model.safetensors")
    config = json.loads((folder / "adapter_config.json").read_bytes())
    name = min(weights)
    if damage == "shape":
        weights[name] = weights[name][:, :-1].contiguous()
    elif damage == "extra":
        weights["base_model.model.lm_head.lora_A.weight"] = torch.zeros(1)
    elif damage == "missing":
        del weights[name]
    elif damage == "nan":
        weights[name][0, 0] = float("nan")
    elif damage == "config":
        config["peft_type"] = "IA3"
    else:
        config["use_dora"] = True
    save_file(weights, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(WorkerFailure) as failure:
        load_adapter(tiny.linears, folder)
    assert failure.value.error.kind == "usage"
