"""Full fine-tuning: every weight of the base, and the resident base as it was."""

import hashlib
import runpy
import tarfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

from app.contracts.errors import WorkerFailure
from app.contracts.rows import LabelledText, TextPair
from app.contracts.specs import AdapterRef, EvalSpec
from tests.support.tiny_models import build_tiny_base
from tests.support.tiny_seq2seq import ARCHITECTURES, build_seq2seq_base
from tests.workers.engine.conftest import ticket_rows, train_spec, write_rows
from workers.engine.base_model import load_base
from workers.engine.evaluation.run import evaluate
from workers.engine.inference.adapters import load_verified_adapter, require_active
from workers.engine.recipes.chat import encode_rows
from workers.engine.recipes.open import open_recipe
from workers.engine.training import batches, memory
from workers.engine.training.full import FullWeights, base_parameters, full_training_bytes
from workers.engine.training.loop import train
from workers.engine.training.lora import activate
from workers.engine.training.loss import batch_loss

TOKENS = torch.arange(3, 40).unsqueeze(0)


def full_spec(ref, folder, **changes):
    fields = {"tuning": "full", "optimizer": {"learning_rate": 1e-3}}
    return train_spec(ref, folder, **(fields | changes))


def run(resident, spec, should_stop=lambda: None, reports=None):
    reports = [] if reports is None else reports
    train(resident, spec, reports.append, should_stop)
    return reports


def of_kind(reports, kind):
    return [report for report in reports if report.kind == kind]


def reference_to(finished):
    return AdapterRef(id="full", path=finished.adapter_path, sha256=finished.adapter_sha256)


def base_digest(resident):
    total = hashlib.sha256()
    for parameter in resident.model.parameters():
        total.update(parameter.data.float().numpy().tobytes())
    return total.hexdigest()


@torch.no_grad()
def logits(resident, adapter):
    with activate(resident.linears, adapter):
        return resident.model(TOKENS).logits


@pytest.fixture(scope="module")
def trained(tiny, tmp_path_factory):
    before = base_digest(tiny)
    reports = run(tiny, full_spec(tiny.ref, tmp_path_factory.mktemp("full")))
    return reports, before


def test_a_full_run_learns_in_every_weight_and_leaves_the_base_as_it_was(tiny, trained):
    reports, before = trained
    metrics = of_kind(reports, "metric")
    (finished,) = of_kind(reports, "finished")
    assert metrics[-1].train_loss < metrics[0].train_loss - 0.5
    assert base_digest(tiny) == before
    assert not any(p.requires_grad or p.grad is not None for p in tiny.model.parameters())
    saved = load_file(f"{finished.adapter_path}/adapter_model.safetensors")
    parameters = base_parameters(tiny.linears)
    assert saved.keys() == parameters.keys()
    assert all(not torch.equal(saved[name], parameter.data) for name, parameter in parameters.items())


def test_the_owner_reads_what_is_trained_and_what_it_takes(tiny, trained):
    (encoded,) = of_kind(trained[0], "encoded")
    assert encoded.trainable_parameters == sum(p.numel() for p in tiny.model.parameters())
    assert encoded.targets == ("all weights",)
    assert any(level == "warn" and "Every weight is trained" in text for level, text in encoded.notes)


def test_the_saved_weights_load_in_transformers_by_their_names_and_give_equal_logits(tiny, trained):
    (finished,) = of_kind(trained[0], "finished")
    model = AutoModelForCausalLM.from_pretrained(tiny.ref.path, dtype=torch.float32)
    weights = load_file(f"{finished.adapter_path}/adapter_model.safetensors")
    assert not model.load_state_dict(weights, strict=False).unexpected_keys
    adapter = load_verified_adapter(tiny, reference_to(finished))
    with torch.no_grad():
        torch.testing.assert_close(logits(tiny, adapter), model(TOKENS).logits, rtol=1e-5, atol=1e-5)
    require_active(tiny, adapter, adapter_id="full")
    assert adapter.task.tuning == "full"


@pytest.mark.parametrize("chunk_bytes", [256 * 2**20, 5000])
def test_the_gradient_is_that_of_plain_autograd_on_the_models_own_loss(tiny, monkeypatch, chunk_bytes):
    monkeypatch.setattr("workers.engine.training.loss._CHUNK_BYTES", {"cpu": chunk_bytes})
    (row,) = encode_rows(tiny, ticket_rows(4)[3:], max_length=256).rows
    weights = FullWeights(tiny.linears, {})
    (batch,) = batches.pack([row], 10_000)
    with activate(tiny.linears, weights):
        loss = batch_loss(tiny, batch)
        torch.autograd.backward(loss.nll_sum / loss.count)
    model = AutoModelForCausalLM.from_pretrained(tiny.ref.path, dtype=torch.float32)
    ids = torch.from_numpy(row.input_ids.astype("int64"))[None]
    labels = torch.where(torch.from_numpy(row.is_supervised)[None], ids, -100)
    torch.autograd.backward(model(ids, labels=labels).loss)
    theirs = dict(model.named_parameters())
    assert theirs.keys() == base_parameters(tiny.linears).keys()
    offset = 0
    for name, parameter in theirs.items():
        ours = weights.gradient[offset : offset + parameter.numel()].view(parameter.shape)
        offset += parameter.numel()
        torch.testing.assert_close(ours, parameter.grad, rtol=1e-3, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")


def test_gradients_of_micro_batches_add_up(tiny):
    weights = FullWeights(tiny.linears, {})
    rows = encode_rows(tiny, ticket_rows(6), max_length=256).rows

    def gradient(budget):
        weights.zero_grad()
        for batch in batches.pack(rows, budget):
            with activate(tiny.linears, weights):
                torch.autograd.backward(batch_loss(tiny, batch).nll_sum)
        return weights.gradient.clone()

    whole, split = gradient(10_000), gradient(1)
    assert (whole - split).norm() < 1e-4 * whole.norm()


@pytest.mark.parametrize("stop_after", [1, 4])
def test_a_full_run_stopped_and_resumed_ends_as_the_unbroken_one(tiny, tmp_path, trained, stop_after):
    reports = []
    spec = full_spec(tiny.ref, tmp_path, resume_checkpoint_seconds=1000)
    run(tiny, spec, lambda: "preempt" if len(of_kind(reports, "metric")) >= stop_after else None, reports)
    run(tiny, spec.model_copy(update={"resume_from": of_kind(reports, "checkpoint")[-1].path}), reports=reports)
    assert of_kind(reports, "finished")[0].adapter_sha256 == of_kind(trained[0], "finished")[0].adapter_sha256


def test_a_bf16_base_is_trained_by_fp32_masters(tmp_path, monkeypatch):
    monkeypatch.setenv("TUNESMITH_ENGINE_DTYPE", "bfloat16")
    resident = load_base(build_tiny_base(tmp_path / "base"), torch.device("cpu"))
    before = base_digest(resident)
    reports = run(resident, full_spec(resident.ref, tmp_path / "run"))
    (finished,) = of_kind(reports, "finished")
    assert of_kind(reports, "metric")[-1].train_loss < of_kind(reports, "metric")[0].train_loss - 0.5
    assert base_digest(resident) == before
    saved = load_file(f"{finished.adapter_path}/adapter_model.safetensors")
    assert {tensor.dtype for tensor in saved.values()} == {torch.bfloat16}
    checkpoint = load_file(f"{finished.adapter_path}/../optimizer.safetensors")
    assert checkpoint["weights"].dtype == torch.float32
    again = load_verified_adapter(resident, reference_to(finished))
    assert torch.equal(again.tensors()["model.norm.weight"], saved["model.norm.weight"])


def test_a_full_model_is_evaluated_beside_its_base(tiny, trained, tmp_path):
    (finished,) = of_kind(trained[0], "finished")
    write_rows(tmp_path / "rows.jsonl", ticket_rows(6))
    spec = EvalSpec(
        run_id="eval-1",
        base=tiny.ref,
        adapter=reference_to(finished),
        rows=str(tmp_path / "rows.jsonl"),
        max_length=256,
        latency_rows=2,
        latency_new_tokens=4,
    )
    reports = []
    evaluate(tiny, spec, reports.append, lambda: None)
    (found,) = of_kind(reports, "evaluation")
    assert found.tuned.loss < found.base.loss - 0.5


def test_training_goes_on_from_a_full_model_and_only_with_the_same_tuning(tiny, trained, tmp_path):
    (finished,) = of_kind(trained[0], "finished")
    start = {"id": "full", "path": finished.adapter_path, "sha256": finished.adapter_sha256}
    metrics = of_kind(run(tiny, full_spec(tiny.ref, tmp_path / "on", initial_adapter=start)), "metric")
    assert metrics[0].train_loss < of_kind(trained[0], "metric")[0].train_loss - 0.5
    with pytest.raises(WorkerFailure) as failure:
        run(tiny, train_spec(tiny.ref, tmp_path / "lora", initial_adapter=start))
    assert failure.value.error.code == "tuning_differs"


def test_a_base_too_large_for_the_device_is_refused_before_memory_is_taken(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "memory_bytes", lambda _device: full_training_bytes(tiny.linears) - 1)
    with pytest.raises(WorkerFailure, match="Train an adapter") as failure:
        run(tiny, full_spec(tiny.ref, tmp_path))
    assert failure.value.error.code == "does_not_fit"


def test_whole_models_share_no_batch(tiny):
    weights = FullWeights(tiny.linears, {}, trains=False)
    with pytest.raises(TypeError), activate(tiny.linears, [(weights, 0, 5), (None, 5, 9)]):
        pass


def test_a_whole_model_that_only_answers_holds_its_weights_once(tiny):
    weights = FullWeights(tiny.linears, {}, trains=False)
    assert weights.parameter_count == 0
    assert sum(t.numel() for t in weights.tensors().values()) == sum(p.numel() for p in tiny.model.parameters())


def test_the_head_of_a_classifier_is_trained_with_the_base(tiny, tmp_path):
    rows = [
        LabelledText(line=i + 1, text=f"{word} ticket {i}", labels=(word,))
        for i, word in enumerate(("billing", "repair") * 6)
    ]
    sha256 = write_rows(tmp_path / "texts.jsonl", rows)
    spec = full_spec(
        tiny.ref,
        tmp_path,
        recipe="text_classification",
        labels=("billing", "repair"),
        train_rows=str(tmp_path / "texts.jsonl"),
        train_rows_sha256=sha256,
    )
    (finished,) = of_kind(run(tiny, spec), "finished")
    saved = load_file(f"{finished.adapter_path}/adapter_model.safetensors")
    assert not torch.equal(saved["head.weight"], saved["probe.weight"])
    adapter = load_verified_adapter(tiny, reference_to(finished))
    assert torch.equal(adapter.vectors["head.weight"].detach(), saved["head.weight"])
    assert (logits(tiny, adapter) - logits(tiny, None)).abs().max() > 1e-3


def test_the_documented_script_makes_a_model_folder_of_a_download(tiny, trained, tmp_path, capsys):
    (finished,) = of_kind(trained[0], "finished")
    with tarfile.open(tmp_path / "adapter.tar", "w") as tar:
        tar.add(finished.adapter_path, arcname=".")
    script = Path(__file__).parents[4] / "docs" / "examples" / "load_full_model.py"
    main = runpy.run_path(str(script))["main"]
    assert main(tiny.ref.path, str(tmp_path / "adapter.tar"), str(tmp_path / "model")) == 0
    assert "tensors written" in capsys.readouterr().out
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32)
    with torch.no_grad():
        theirs = model(TOKENS).logits
    adapter = load_verified_adapter(tiny, reference_to(finished))
    torch.testing.assert_close(logits(tiny, adapter), theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_weight_of_an_encoder_decoder_has_the_gradient_of_the_models_own_loss(tmp_path, architecture):
    base = load_base(build_seq2seq_base(tmp_path / "base", architecture), torch.device("cpu"))
    recipe = open_recipe(base, "summarization")
    pairs = [TextPair(line=1, source="The machine is broken. " * 3, target="repair it soon")]
    (row,) = recipe.encode(pairs, max_length=256, on_progress=lambda _done: None).rows
    weights = FullWeights(base.linears, {})
    (batch,) = recipe.pack([row], 10_000)
    with activate(base.linears, weights):
        loss = recipe.loss(batch, weights)
        torch.autograd.backward(loss.nll_sum)
    model = AutoModelForSeq2SeqLM.from_pretrained(base.ref.path, dtype=torch.float32).eval()
    source, target = (torch.from_numpy(ids.astype("int64"))[None] for ids in (row.source_ids, row.target_ids))
    theirs = model(input_ids=source, labels=target).loss
    torch.autograd.backward(theirs * loss.count)
    torch.testing.assert_close(loss.nll_sum, theirs * loss.count, rtol=1e-4, atol=1e-4)
    assert dict(model.named_parameters()).keys() == weights.masters().keys()
    offset = 0
    for name, parameter in model.named_parameters():
        ours = weights.gradient[offset : offset + parameter.numel()].view(parameter.shape)
        offset += parameter.numel()
        wanted = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        atol = 1e-4 + 1e-3 * float(wanted.abs().max())  # sums that cancel keep the rounding of their parts
        torch.testing.assert_close(ours, wanted, rtol=1e-3, atol=atol, msg=lambda m, n=name: f"{n}: {m}")
