import runpy
from pathlib import Path

import pytest
import torch

from app.contracts.errors import WorkerFailure
from app.contracts.rows import LabelledText
from tests.workers.engine.recipes.conftest import LABELS, head_spec, labelled_rows, tagged_rows
from workers.engine.recipes.head import fit_probe, pool, probe_logits
from workers.engine.recipes.text_classification import TextClassification
from workers.engine.recipes.token_classification import TokenClassification
from workers.engine.training.adapter_files import load_adapter, read_task
from workers.engine.training.loop import train
from workers.engine.training.lora import activate


def run(base, spec, should_stop=lambda: None):
    reports = []
    train(base, spec, reports.append, should_stop)
    return reports


def of_kind(reports, kind):
    return [report for report in reports if report.kind == kind]


def encode(recipe, rows):
    return recipe.encode(rows, max_length=64, on_progress=lambda _: None)


def test_packed_texts_have_the_features_they_have_alone(encoder):
    recipe = TextClassification(encoder, LABELS)
    rows = encode(recipe, labelled_rows(9)).rows
    alone = torch.cat([recipe.features(recipe.pack([row], 64)[0]) for row in rows])
    (batch,) = recipe.pack(rows, 10_000)
    order = [row.line - 1 for row in batch.rows]
    assert torch.allclose(recipe.features(batch), alone[order], atol=1e-5)


def test_the_mean_of_a_row_is_over_its_own_tokens():
    hidden = torch.arange(12.0).view(6, 2)
    assert torch.equal(pool(hidden, (2, 4), "mean"), torch.stack((hidden[:2].mean(0), hidden[2:].mean(0))))
    assert torch.equal(pool(hidden, (2, 4), "last"), hidden[[1, 5]])


def test_the_features_are_those_of_transformers_own_model(encoder):
    recipe = TextClassification(encoder, LABELS)
    row = encode(recipe, labelled_rows(1)).rows[0]
    ours = recipe.features(recipe.pack([row], 64)[0])
    inputs = encoder.tokenizer(labelled_rows(1)[0].text, return_tensors="pt")
    theirs = encoder.model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])
    assert torch.allclose(ours[0], theirs.last_hidden_state[0].mean(0), atol=1e-5)


def test_a_probe_separates_what_a_line_can_separate():
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(60) % 3
    features = torch.randn(60, 8, generator=generator) * 0.1 + torch.eye(8)[targets] * 5 + 100
    probe = fit_probe(features, targets, 3)
    assert torch.equal(probe_logits(probe, features).argmax(1), targets)
    again = fit_probe(features, targets, 3)
    assert torch.equal(probe.weight, again.weight)


def test_a_classifier_learns_and_its_saved_head_gives_equal_logits(encoder, tmp_path):
    rows = labelled_rows(24)
    reports = run(encoder, head_spec(encoder.ref, tmp_path, rows, valid=labelled_rows(9)))
    (finished,) = of_kind(reports, "finished")
    metrics = of_kind(reports, "metric")
    assert metrics[-1].selection_score_name == "macro_f1"
    assert metrics[-1].train_loss < metrics[0].train_loss
    recipe = TextClassification(encoder, LABELS)
    folder = tmp_path / "out" / "checkpoints" / f"step-{finished.step:06d}" / "adapter"
    assert read_task(folder).labels == LABELS
    first, second = (load_adapter(encoder.linears, folder) for _ in range(2))
    (batch,) = recipe.pack(encode(recipe, rows).rows, 10_000)
    outputs = []
    for adapter in (first, second):
        with torch.no_grad(), activate(encoder.linears, adapter):
            outputs.append(recipe.loss(batch, adapter).outputs)
    assert torch.equal(*outputs)
    assert first.probe is not None


def test_a_label_that_does_not_train_is_reported_not_guessed(encoder):
    recipe = TextClassification(encoder, LABELS)
    encoded = encode(recipe, (*labelled_rows(3), LabelledText(line=4, text="hello", labels=("greeting",))))
    assert len(encoded.rows) == 3
    assert encoded.dropped == ((4, "the label 'greeting' is none of the training rows'"),)


def test_several_labels_a_text_are_judged_as_a_set(encoder):
    recipe = TextClassification(encoder, LABELS, is_multi_label=True)
    rows = (
        LabelledText(line=1, text="a b", labels=("billing", "repair")),
        LabelledText(line=2, text="c", labels=()),
    )
    (batch,) = recipe.pack(encode(recipe, rows).rows, 100)
    logits = torch.tensor([[3.0, -3.0, 3.0], [-3.0, 3.0, -3.0]])[[row.line - 1 for row in batch.rows]]
    judged = recipe.judge(batch, logits)
    assert judged.correct.item() == 1
    assert sorted(recipe.chosen(logits)) == [(0, 2), (1,)]


def test_words_are_tagged_at_their_first_token_and_cover_their_characters(encoder):
    recipe = TokenClassification(encoder, ("city", "person"))
    row = encode(recipe, tagged_rows(2)[1:]).rows[0]
    text = tagged_rows(2)[1].text
    tagged = [text[start:end] for (start, end), tag in zip(row.words, row.tags, strict=True) if tag]
    assert tagged == ["Paris", "Anna", "Berg"]
    assert row.tags[row.tags > 0].tolist() == [1, 3, 4]
    assert row.supervised_tokens == len(row.words) < row.tokens


def test_a_tagger_learns_its_entities(encoder, tmp_path):
    rows = tagged_rows(40)
    spec = head_spec(encoder.ref, tmp_path, rows, valid=tagged_rows(6), token_budget=200, n_epochs=3)
    reports = run(encoder, spec)
    metrics = of_kind(reports, "metric")
    assert metrics[-1].selection_score_name == "span_f1"
    assert metrics[-1].selection_score > 0.9


def test_truncation_is_reported(encoder):
    recipe = TextClassification(encoder, LABELS)
    row = LabelledText(line=1, text="parcel " * 60, labels=("delivery",))
    encoded = recipe.encode([row], max_length=16, on_progress=lambda _: None)
    assert encoded.truncated == 1
    assert encoded.rows[0].tokens == 16
    assert encoded.rows[0].input_ids[-1] == encoder.tokenizer.sep_token_id


@pytest.mark.parametrize("stop_after", [1, 4, 7, 11])
@pytest.mark.parametrize("rows", [labelled_rows(24), tagged_rows(24)], ids=["labels", "entities"])
def test_a_stopped_and_resumed_run_ends_as_the_unbroken_one(encoder, tmp_path, rows, stop_after):
    whole = run(encoder, head_spec(encoder.ref, tmp_path / "whole", rows, valid=rows[:6]))
    spec = head_spec(encoder.ref, tmp_path / "broken", rows, valid=rows[:6])
    reports = []

    def should_stop():
        return "preempt" if len(of_kind(reports, "metric")) >= stop_after else None

    train(encoder, spec, reports.append, should_stop)
    assert of_kind(reports, "stopped")[0].step == stop_after
    resumed = spec.model_copy(update={"resume_from": of_kind(reports, "checkpoint")[-1].path})
    train(encoder, resumed, reports.append, lambda: None)
    assert of_kind(reports, "finished")[0].adapter_sha256 == of_kind(whole, "finished")[0].adapter_sha256


def test_a_task_that_the_base_cannot_do_is_refused(tiny, tmp_path):
    with pytest.raises(WorkerFailure) as failure:
        run(tiny, head_spec(tiny.ref, tmp_path, tagged_rows(4)))
    assert failure.value.error.code == "unsupported_task"


def test_a_decoder_classifies_by_its_last_token(tiny, tmp_path):
    rows = labelled_rows(24)
    reports = run(tiny, head_spec(tiny.ref, tmp_path, rows, token_budget=400, n_epochs=3))
    metrics = of_kind(reports, "metric")
    assert metrics[-1].train_loss < metrics[0].train_loss
    recipe = TextClassification(tiny, LABELS)
    assert encode(recipe, rows).rows[0].input_ids[-1] == tiny.tokenizer.eos_token_id


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft's own
def test_plain_peft_and_the_documented_script_give_the_same_labels(encoder, tmp_path, capsys):
    rows = labelled_rows(24)
    (finished,) = of_kind(run(encoder, head_spec(encoder.ref, tmp_path, rows, token_budget=400)), "finished")
    script = Path(__file__).parents[4] / "docs" / "examples" / "load_classifier_with_peft.py"
    texts = [row.text for row in rows[:6]]
    runpy.run_path(str(script))["main"](encoder.ref.path, finished.adapter_path, *texts)
    theirs = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    recipe = TextClassification(encoder, LABELS)
    adapter = load_adapter(encoder.linears, Path(finished.adapter_path))
    for text, (label, probability, _) in zip(texts, theirs, strict=True):
        (batch,) = recipe.pack([recipe.encode_text(text, 128)], 128)
        with torch.no_grad(), activate(encoder.linears, adapter):
            ours = recipe.loss(batch, adapter).outputs[0].softmax(0)
        assert label == LABELS[int(ours.argmax())]
        assert float(probability) == pytest.approx(float(ours.max()), abs=1e-4)
