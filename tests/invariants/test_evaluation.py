"""Figures are sums over rows: equal for any batch size, made without keeping logits, and named after what they are."""

import weakref

import pytest
import torch

from app.contracts.reports import Evaluation
from app.contracts.specs import AdapterRef, EvalSpec
from tests.invariants.recipe_runs import CHAT, PREFERENCES, QUEUES, evaluation_spec, make_spec, run
from tests.workers.engine.conftest import chat_row, write_rows
from workers.engine.evaluation.answers import answer_all, label_token_limit
from workers.engine.evaluation.metrics import class_scores
from workers.engine.evaluation.questions import make_questions
from workers.engine.evaluation.run import evaluate
from workers.engine.evaluation.scoring import score_rows
from workers.engine.inference.adapters import load_verified_adapter
from workers.engine.recipes.chat import encode_rows


@pytest.fixture
def trained(job, resident, tmp_path):
    """A trained job and an evaluation of its adapter on 32 rows."""
    spec = make_spec(job, resident, tmp_path, valid=32)
    found = run(resident, spec.model_copy(update={"keeps_best": False}))
    return found, evaluation_spec(spec, found)


def evaluation(resident, spec) -> Evaluation:
    reports = []
    evaluate(resident, spec, reports.append, lambda: None)
    return reports[-1]


def figures(found: Evaluation) -> dict[str, float]:
    """Every number but the times, by its path."""
    numbers: dict[str, float] = {}

    def collect(name: str, value: object) -> None:
        if isinstance(value, dict):
            for key, part in value.items():
                collect(f"{name}.{key}", part)
        elif isinstance(value, tuple | list):
            for place, part in enumerate(value):
                collect(f"{name}.{place}", part)
        elif value is not None and not isinstance(value, str):
            numbers[name] = float(value)

    for model in ("base", "tuned"):
        collect(model, getattr(found, model).model_dump(exclude={"latency", "evaluation_seconds"}))
    return numbers


def test_an_evaluation_gives_the_same_figures_for_batches_of_1_of_about_7_and_of_32_rows(job, resident, trained):
    _, spec = trained
    tokens = 32 * (60 if resident.family == "decoder" else 22)
    whole, seven, single = (
        evaluation(resident, spec.model_copy(update={"token_budget": budget}))
        for budget in (100_000, 7 * tokens // 32, 1)
    )
    assert figures(seven) == pytest.approx(figures(whole), rel=1e-5)
    assert figures(single) == pytest.approx(figures(whole), rel=1e-5)
    assert len(figures(whole)) > 5


def test_the_evaluation_of_the_last_checkpoint_has_the_figures_of_its_validation(job, resident, trained):
    found, spec = trained
    scores, last = evaluation(resident, spec).tuned, found.metrics[-1]
    if job is PREFERENCES:  # its evaluation's loss is that of the wanted answers, as of a chat model
        assert scores.preference.accuracy == pytest.approx(last.full_valid_mean_token_accuracy)
    else:
        assert scores.loss == pytest.approx(last.full_valid_loss, rel=1e-5)
        assert scores.token_accuracy == pytest.approx(last.full_valid_mean_token_accuracy)


def test_the_labels_of_a_chat_model_are_scored_on_what_it_writes_not_on_what_it_is_shown(tiny, tmp_path):
    """Token accuracy has the right answer's tokens before each token; a written answer has only its own."""
    rows = [chat_row(i + 1, f"ticket {i}", QUEUES[i % 4]) for i in range(12)]
    found = run(tiny, make_spec(CHAT, tiny, tmp_path, rows=rows, n_epochs=4))
    write_rows(tmp_path / "heldout.jsonl", rows)
    ref = AdapterRef(id="tuned", path=found.finished.adapter_path, sha256=found.finished.adapter_sha256)
    spec = EvalSpec(
        run_id="e", base=tiny.ref, adapter=ref, rows=str(tmp_path / "heldout.jsonl"), labels=QUEUES, max_length=256
    )
    scores = evaluation(tiny, spec).tuned
    encoded = encode_rows(tiny, rows, max_length=256).rows
    questions = make_questions(rows, encoded)
    adapter = load_verified_adapter(tiny, ref)
    limit = label_token_limit(tiny, QUEUES)
    answers = [answer.text for answer in answer_all(tiny, adapter, questions, max_new_tokens=limit)]
    assert scores.classification == class_scores([row.messages[-1].content or "" for row in rows], answers, QUEUES)
    assert scores.token_accuracy == score_rows(tiny, adapter, encoded, token_budget=2048).token_accuracy
    assert scores.token_accuracy != scores.classification.accuracy


def test_no_logits_outlive_their_batch_and_only_supervised_positions_have_any(tiny):
    rows = encode_rows(tiny, [chat_row(i + 1, "my parcel is late. " * 8, "delivery") for i in range(8)], max_length=256)
    supervised = max(row.supervised_tokens for row in rows.rows)
    made: list[tuple[int, weakref.ref[torch.Tensor]]] = []
    alive: list[int] = []
    original = torch.nn.functional.linear

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            found = func(*args, **(kwargs or {}))
            if func is original and found.shape[-1] == tiny.vocab_size:
                made.append((found.shape[0], weakref.ref(found)))
            return found

    def count_alive(_rows: int) -> None:
        alive.append(sum(logits() is not None for _, logits in made))

    with Watch():
        score_rows(tiny, None, rows.rows, token_budget=1, on_batch=count_alive)
    assert [positions for positions, _ in made] == [supervised] * 8
    assert alive == [0] * 8


def test_an_evaluation_leaves_nothing_on_disk_beside_what_it_read(resident, trained, tmp_path):
    _, spec = trained
    before = sorted(tmp_path.rglob("*"))
    evaluation(resident, spec)
    assert sorted(tmp_path.rglob("*")) == before
