"""Summarization from rows to an evaluation, through the engine's own verbs, on both families."""

import hashlib
from pathlib import Path

import pytest
import torch

from app.contracts.reports import Evaluation, Finished, Progress, Stopped, report_adapter
from app.contracts.rows import TextPair
from app.contracts.specs import AdapterRef, EvalSpec, LoraSpec, OptimizerSpec, TrainSpec
from tests.support.tiny_models import build_tiny_base
from tests.support.tiny_seq2seq import build_seq2seq_base
from workers.engine.base_model import load_base
from workers.engine.evaluation.answers import answer_all
from workers.engine.evaluation.questions import make_questions
from workers.engine.evaluation.rouge import text_scores
from workers.engine.evaluation.run import evaluate
from workers.engine.evaluation.summaries import token_limit
from workers.engine.inference.seq2seq import write_texts
from workers.engine.recipes.open import open_recipe
from workers.engine.recipes.summarization import chat_rows
from workers.engine.training.adapter_files import load_adapter
from workers.engine.training.loop import train

TRAIN = tuple(
    TextPair(line=i + 1, source=f"ticket {i}: " + "my parcel is late. " * (i % 4), target="late " * (1 + i % 3))
    for i in range(12)
)
HELD_OUT = tuple(pair.model_copy(update={"source": "please: " + pair.source}) for pair in TRAIN[:7])


@pytest.fixture(scope="module", params=["t5", "bart", "llama"])
def base(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("base") / "b"
    ref = build_tiny_base(folder) if request.param == "llama" else build_seq2seq_base(folder, request.param)
    return load_base(ref, torch.device("cpu"))


@pytest.fixture(scope="module")
def unbroken(base, tmp_path_factory):
    reports = run(base, train_spec(base, tmp_path_factory.mktemp("unbroken")))
    assert isinstance(reports[-1], Finished)
    return reports


def write_rows(path, rows):
    path.write_text("".join(row.model_dump_json() + "\n" for row in rows), encoding="utf-8")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def train_spec(base, folder, **changes):
    fields = {
        "run_id": "run-1",
        "base": base.ref,
        "recipe": "summarization",
        "train_rows": str(folder / "train.jsonl"),
        "train_rows_sha256": write_rows(folder / "train.jsonl", TRAIN),
        "valid_rows": str(folder / "valid.jsonl"),
        "output_dir": str(folder / "out"),
        "lora": LoraSpec(rank=4, alpha=8, dropout=0.1),
        "optimizer": OptimizerSpec(learning_rate=3e-2),
        "batch_size": 4,
        "n_epochs": 2,
        "seed": 7,
        "max_length": 200,
        "token_budget": 100,
        "resume_checkpoint_seconds": 0,
    }
    write_rows(folder / "valid.jsonl", HELD_OUT)
    return TrainSpec.model_validate(fields | changes)


def run(base, spec, should_stop=lambda: None):
    reports = []
    train(base, spec, reports.append, should_stop)
    return reports


def figures(reports):
    return {
        report.step: (report.train_loss, report.grad_norm, report.full_valid_loss)
        for report in reports
        if report.kind == "metric"
    }


def eval_spec(base, finished, folder, rows=HELD_OUT):
    write_rows(folder / "heldout.jsonl", rows)
    return EvalSpec(
        run_id="eval-1",
        base=base.ref,
        adapter=AdapterRef(id="ft:tiny", path=finished.adapter_path, sha256=finished.adapter_sha256),
        recipe="summarization",
        rows=str(folder / "heldout.jsonl"),
        max_length=200,
        latency_rows=3,
        latency_new_tokens=4,
    )


def test_training_lowers_the_loss_and_ends_with_an_adapter(unbroken):
    losses = [loss for loss, _, _ in figures(unbroken).values()]
    assert len(losses) == 6
    assert losses[-1] < losses[0]
    assert unbroken[-1].reason.startswith("The result is")


@pytest.mark.parametrize("stop_after", [1, 4])
def test_a_run_stopped_and_resumed_ends_as_the_unbroken_one(base, unbroken, tmp_path, stop_after):
    spec = train_spec(base, tmp_path)
    reports = []

    def should_stop():
        return "pause" if any(report.kind == "metric" and report.step == stop_after for report in reports) else None

    train(base, spec, reports.append, should_stop)
    assert isinstance(reports[-1], Stopped)
    resumed = run(base, spec.model_copy(update={"resume_from": str(tmp_path / "out" / "checkpoints")}))
    assert figures(reports) | figures(resumed) == figures(unbroken)
    assert resumed[-1].adapter_sha256 == unbroken[-1].adapter_sha256


def test_an_evaluation_has_loss_texts_and_latency_of_base_and_tuned(base, unbroken, tmp_path):
    reports = []
    evaluate(base, eval_spec(base, unbroken[-1], tmp_path), reports.append, lambda: None)
    found = reports[-1]
    assert isinstance(found, Evaluation)
    assert report_adapter.validate_json(found.model_dump_json()) == found
    assert found.rows == 7
    assert found.tuned.loss < found.base.loss
    assert found.tuned.loss == pytest.approx(list(figures(unbroken).values())[-1][2], rel=1e-5)
    for scores in (found.base, found.tuned):
        assert scores.text.n == 7
        assert 0 <= scores.text.rouge2 <= scores.text.rouge1 <= 1
        assert scores.latency.n == 3
        assert scores.latency.end_to_end_ms_p50 >= scores.latency.time_to_first_token_ms_p50 > 0
    assert [sample.line for sample in found.samples] == [1, 2, 3, 5, 6]
    assert found.samples[0].prompt == HELD_OUT[0].source
    assert found.samples[0].expected == HELD_OUT[0].target
    assert found.samples[0].base != found.samples[0].tuned
    progress = [report for report in reports if isinstance(report, Progress) and report.phase == "evaluate"]
    assert progress[-1].done == progress[-1].total


def test_the_scores_are_those_of_the_texts_the_tuned_model_writes(base, unbroken, tmp_path):
    reports = []
    spec = eval_spec(base, unbroken[-1], tmp_path)
    evaluate(base, spec, reports.append, lambda: None)
    adapter = load_adapter(base.linears, Path(unbroken[-1].adapter_path))
    recipe = open_recipe(base, "summarization")
    encoded = recipe.encode(HELD_OUT, max_length=200, on_progress=lambda _done: None)
    limit = token_limit([row.supervised_tokens for row in encoded.rows])
    if base.family == "decoder":
        questions = make_questions(chat_rows(base, HELD_OUT), encoded.rows)
        written = [answer.text for answer in answer_all(base, adapter, questions, max_new_tokens=limit)]
    else:
        texts = write_texts(base, adapter, [pair.source for pair in HELD_OUT], max_new_tokens=limit)
        written = [text.text for text in texts]
    assert reports[-1].tuned.text == text_scores([pair.target for pair in HELD_OUT], written)
    assert reports[-1].samples[0].tuned == written[0]


def test_at_most_32_texts_are_written_and_they_are_spread_over_the_rows(base, unbroken, tmp_path):
    rows = tuple(TextPair(line=line, source=f"parcel {line}", target="late") for line in range(1, 71))
    reports = []
    evaluate(base, eval_spec(base, unbroken[-1], tmp_path, rows), reports.append, lambda: None)
    assert reports[-1].rows == 70
    assert reports[-1].base.text.n == 32
    assert reports[-1].samples[-1].line > 50


def test_a_stopped_evaluation_ends_at_once_with_its_reason(base, unbroken, tmp_path):
    reports = []
    spec = eval_spec(base, unbroken[-1], tmp_path)
    evaluate(base, spec, reports.append, lambda: "cancel" if len(reports) > 2 else None)
    assert reports[-1] == Stopped(run_id="eval-1", reason="cancel", step=0)


def test_texts_get_the_room_most_targets_need_and_never_more_than_256_tokens():
    assert token_limit([10] * 99 + [500]) == 10
    assert token_limit([3, 5]) == 5
    assert token_limit([400] * 10) == 256
