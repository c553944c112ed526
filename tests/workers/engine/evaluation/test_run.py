from pathlib import Path

import pytest
import torch

from app.contracts.errors import WorkerFailure
from app.contracts.reports import Evaluation, Progress, Stopped, report_adapter
from app.contracts.rows import ChatMessage, ChatRow
from tests.support.tiny_models import build_tiny_base
from tests.workers.engine.evaluation.conftest import chat_spec
from workers.engine.base_model import load_base
from workers.engine.evaluation.answers import answer_all
from workers.engine.evaluation.questions import make_questions
from workers.engine.evaluation.run import evaluate
from workers.engine.evaluation.scoring import score_rows
from workers.engine.recipes.chat import encode_rows
from workers.engine.recipes.templates import render_prompt
from workers.engine.training.adapter_files import load_adapter
from workers.engine.training.lora import activate

LABELS = ("billing", "delivery", "repair")


def make_row(line, text, answer):
    return ChatRow(
        line=line,
        messages=(
            ChatMessage(role="system", content="Route the ticket."),
            ChatMessage(role="user", content=text),
            ChatMessage(role="assistant", content=answer),
        ),
    )


ROWS = tuple(make_row(i, "My parcel is late. " * (1 + i % 5) + str(i), LABELS[i % 3]) for i in range(1, 14))


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """A resident base, an adapter on disk and a rows file."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("house")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNESMITH_ENGINE_DTYPE", "float32")
        resident = load_base(build_tiny_base(folder / "base"), torch.device("cpu"))
    spec = chat_spec(resident, folder, ROWS, labels=LABELS, max_length=256, latency_rows=3, latency_new_tokens=4)
    return resident, spec


def run(house, spec, should_stop=lambda: None):
    reports = []
    evaluate(house[0], spec, reports.append, should_stop)
    return reports


def test_an_evaluation_puts_base_beside_tuned(house):
    reports = run(house, house[1])
    found = reports[-1]
    assert isinstance(found, Evaluation)
    assert report_adapter.validate_json(found.model_dump_json()) == found
    assert found.rows == 13
    assert found.dropped == ()
    assert found.base.loss != found.tuned.loss
    assert found.base.supervised_tokens == found.tuned.supervised_tokens > 13
    for scores in (found.base, found.tuned):
        assert scores.classification.n == 13
        assert scores.latency.n == 3
        assert scores.latency.end_to_end_ms_p50 >= scores.latency.time_to_first_token_ms_p50 > 0
    assert len(found.samples) == 5
    assert found.samples[0].expected == ROWS[found.samples[0].line - 1].messages[-1].content
    progress = [r for r in reports if isinstance(r, Progress) and r.phase == "evaluate"]
    assert [r.done for r in progress] == sorted(r.done for r in progress)
    assert progress[-1].done == progress[-1].total


def test_free_text_rows_have_losses_and_samples_but_no_class_scores(house):
    found = run(house, house[1].model_copy(update={"labels": None}))[-1]
    assert found.base.classification is None
    assert len(found.samples) == 5
    assert found.samples[0].base != found.samples[0].tuned


@pytest.mark.parametrize("with_adapter", [False, True])
def test_figures_do_not_depend_on_the_batch_size(house, with_adapter):
    resident, spec = house
    adapter = load_adapter(resident.linears, Path(spec.adapter.path)) if with_adapter else None
    encoded = encode_rows(resident, ROWS, max_length=256)
    questions = make_questions(ROWS, encoded.rows)
    found = [score_rows(resident, adapter, encoded.rows, token_budget=budget) for budget in (1, 300, 10_000)]
    answers = [
        answer_all(resident, adapter, questions, max_new_tokens=6, batch_rows=batch_rows) for batch_rows in (1, 7, 32)
    ]
    assert answers[0] == answers[1] == answers[2]
    # The plain definition: every row alone, all logits, mean over all supervised tokens.
    nll, correct, count = 0.0, 0, 0
    for row in encoded.rows:
        ids = torch.tensor(row.input_ids, dtype=torch.long)
        with torch.inference_mode(), activate(resident.linears, adapter):
            logprobs = torch.log_softmax(resident.model(ids[None]).logits[0, :-1].double(), -1)
        kept = torch.from_numpy(row.is_supervised[1:])
        nll -= float(logprobs.gather(1, ids[1:, None])[kept].sum())
        correct += int((logprobs.argmax(-1) == ids[1:])[kept].sum())
        count += int(kept.sum())
    for scores in found:
        assert scores.loss == pytest.approx(nll / count, rel=1e-5)
        assert scores.token_accuracy == pytest.approx(correct / count)
        assert scores.supervised_tokens == count


def test_questions_are_the_very_tokens_a_server_sees(house):
    resident, _ = house
    encoded = encode_rows(resident, ROWS, max_length=256)
    for row, question in zip(ROWS, make_questions(ROWS, encoded.rows), strict=True):
        assert list(question.prompt_ids) == render_prompt(resident.tokenizer, row.messages[:-1])
        assert question.expected == row.messages[-1].content


def test_rows_that_cannot_be_encoded_are_reported_and_the_rest_is_scored(house, tmp_path):
    bad = make_row(14, "hello", "<|im_end|>")
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(row.model_dump_json() + "\n" for row in (*ROWS[:3], bad)))
    found = run(house, house[1].model_copy(update={"rows": str(path)}))[-1]
    assert found.rows == 3
    assert [line for line, _ in found.dropped] == [14]


def test_a_file_without_a_usable_row_is_the_users_error(house, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(make_row(1, "hello", "<|im_end|>").model_dump_json() + "\n")
    with pytest.raises(WorkerFailure, match="line 1") as caught:
        run(house, house[1].model_copy(update={"rows": str(path)}))
    assert caught.value.error.code == "no_evaluation_rows"


def test_an_adapter_with_another_hash_is_not_evaluated(house):
    _, spec = house
    wrong = spec.adapter.model_copy(update={"sha256": "0" * 64})
    with pytest.raises(WorkerFailure) as caught:
        run(house, spec.model_copy(update={"adapter": wrong}))
    assert caught.value.error.code == "adapter_hash_mismatch"


def test_a_stopped_evaluation_ends_at_once_with_its_reason(house):
    reports = []
    evaluate(house[0], house[1], reports.append, lambda: "cancel" if len(reports) > 3 else None)
    assert reports[-1] == Stopped(run_id="eval-1", reason="cancel", step=0)
    assert len(reports) <= 6
