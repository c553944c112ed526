"""What is trained is written down, moves, leaves the base as it was, and comes back from disk as it was."""

import hashlib
import json
from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from app.contracts.errors import WorkerFailure
from app.contracts.specs import AdapterRef
from tests.invariants.recipe_runs import CHAT, JOBS, TEXT, encode, make_spec, run
from tests.invariants.references import Reference
from workers.engine.base_model import load_base
from workers.engine.inference.adapters import load_verified_adapter, require_active
from workers.engine.training.adapter_files import encode_adapter
from workers.engine.training.lora import activate
from workers.engine.training.synced_files import write_file

# peft 0.21 asks transformers 5 for a property it deprecates
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")
WEIGHTS = "adapter_model.safetensors"


def base_sha256(resident) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(resident.model.state_dict().items()):
        digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def trained_parts(folder: Path) -> dict[str, torch.Tensor]:
    """All that training changes: not the probe a classifier's head began from."""
    return {name: tensor for name, tensor in load_file(folder / WEIGHTS).items() if not name.startswith("probe.")}


@pytest.mark.parametrize("targets", ["all-linear", "two"])
def test_the_adapters_rank_scale_targets_and_size_are_written_down(job, resident, tmp_path, targets):
    two = {"encoder": ("query", "value"), "decoder": ("q_proj", "v_proj"), "encoder_decoder": ("q", "v")}[job.family]
    lora = {"rank": 3, "alpha": 5, "targets": "all-linear" if targets == "all-linear" else two}
    found = run(resident, make_spec(job, resident, tmp_path, lora=lora, n_epochs=1))
    folder = Path(found.finished.adapter_path)
    config = json.loads((folder / "adapter_config.json").read_text())
    parts = trained_parts(folder)
    adapted = {name.split(".lora_")[0].rsplit(".", 1)[-1] for name in parts if ".lora_" in name}
    assert (config["r"], config["lora_alpha"]) == (3, 5)
    assert set(config["target_modules"]) == set(found.encoded.targets) == adapted
    assert adapted == (set(two) if targets == "two" else {n.rsplit(".", 1)[-1] for n in resident.linears.layers})
    assert found.encoded.trainable_parameters == sum(tensor.numel() for tensor in parts.values())


def test_peft_counts_the_same_trainable_parameters_as_our_report(tiny, tmp_path):
    found = run(tiny, make_spec(CHAT, tiny, tmp_path, n_epochs=1))
    plain = AutoModelForCausalLM.from_pretrained(tiny.ref.path)
    theirs = peft.PeftModel.from_pretrained(plain, found.finished.adapter_path, is_trainable=True)
    assert theirs.get_nb_trainable_parameters()[0] == found.encoded.trainable_parameters


def test_training_moves_the_adapter_and_the_outputs_and_leaves_the_base_as_it_was(job, resident, tmp_path):
    before = base_sha256(resident)
    found = run(resident, make_spec(job, resident, tmp_path))
    assert base_sha256(resident) == before  # tied embeddings and the output layer among it
    assert all(not parameter.requires_grad for parameter in resident.model.parameters())
    folder = found.finished.adapter_path
    first = load_file(tmp_path / "out" / "checkpoints" / "step-000003" / "adapter" / WEIGHTS)
    for name, last in trained_parts(Path(folder)).items():
        assert not torch.equal(last, first[name]), name
        assert bool(last.any()), name
    ref = AdapterRef(id="tuned", path=folder, sha256=found.finished.adapter_sha256)
    adapter = load_verified_adapter(resident, ref)
    if resident.family == "decoder":
        require_active(resident, adapter, adapter_id="tuned")


def test_the_gradient_reaches_the_adapter_in_the_first_step(job, resident, tmp_path):
    found = run(resident, make_spec(job, resident, tmp_path, rows=4, n_epochs=1))
    assert found.metrics[0].grad_norm > 0
    weights = load_file(f"{found.finished.adapter_path}/{WEIGHTS}")
    # Behind the last layer whose output is read every layer has moved: B starts from zero.
    assert all(bool(tensor.any()) for name, tensor in weights.items() if ".lora_B." in name)


def test_an_adapter_on_layers_that_take_no_part_is_a_failure_of_the_run(tiny_ref, tmp_path):
    resident = load_base(tiny_ref, torch.device("cpu"))
    spec = make_spec(CHAT, resident, tmp_path)
    for layer in resident.model.model.layers:
        layer.mlp.forward = lambda hidden, whole=layer.mlp.forward: whole(hidden) * 0
    with pytest.raises(WorkerFailure) as failure:
        run(resident, spec.model_copy(update={"lora": spec.lora.model_copy(update={"targets": ("down_proj",)})}))
    assert failure.value.error.code == "no_gradient"


def test_an_adapter_that_did_not_move_is_a_failure_of_the_run(job, resident, tmp_path):
    spec = make_spec(job, resident, tmp_path, rows=4, n_epochs=1, optimizer={"learning_rate": 1e-60})
    with pytest.raises(WorkerFailure) as failure:
        run(resident, spec)
    assert failure.value.error.code == "weights_did_not_move"


def test_a_saved_adapter_and_head_come_back_bit_for_bit_and_give_equal_outputs(job, resident, tmp_path):
    """The outputs of the last validation, from a fresh load of the files on a fresh load of the base."""
    found = run(resident, make_spec(job, resident, tmp_path, valid=5, keeps_best=False))
    folder = Path(found.finished.adapter_path)
    fresh = load_base(resident.ref, torch.device("cpu"))
    ref = AdapterRef(id="tuned", path=str(folder), sha256=found.finished.adapter_sha256)
    adapter = load_verified_adapter(fresh, ref)
    recipe, encoded = encode(job, fresh, job.make_rows(5))
    total, count = 0.0, 0
    for batch in recipe.pack(encoded, 150):
        with torch.no_grad(), activate(fresh.linears, adapter):
            loss = recipe.loss(batch, adapter)
        total, count = total + float(loss.nll_sum), count + loss.count
    assert total / count == found.metrics[-1].full_valid_loss
    family = resident.family
    write_file(tmp_path / "again", encode_adapter(adapter, resident.ref.id, family)[WEIGHTS])
    assert hashlib.sha256((tmp_path / "again").read_bytes()).hexdigest() == found.finished.adapter_sha256


@pytest.mark.parametrize(
    ("job", "variant"),
    [*((job, "lora") for job in JOBS), (CHAT, "rslora"), (CHAT, "dora"), (TEXT, "rslora"), (TEXT, "dora")],
    ids=lambda value: getattr(value, "name", value),
)
def test_plain_transformers_and_peft_give_the_trained_model_the_loss_we_report(job, resident, tmp_path, variant):
    lora = {"rank": 4, "alpha": 8, "variant": variant}
    found = run(resident, make_spec(job, resident, tmp_path, valid=5, keeps_best=False, lora=lora))
    reference = Reference(job, resident, Path(found.finished.adapter_path))
    with torch.no_grad():
        theirs = reference.loss(job.make_rows(5)).item()
    assert found.metrics[-1].full_valid_loss == pytest.approx(theirs, rel=1e-5)
