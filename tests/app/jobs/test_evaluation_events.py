"""What an evaluation's event says."""

import pytest

from app.contracts.reports import Evaluation
from app.jobs import event_texts
from tests.support.job_world import LABELS


def evaluation(*, is_labelled):
    def scores(accuracy):
        return {
            "loss": 1 - accuracy,
            "token_accuracy": accuracy,
            "supervised_tokens": 9,
            "classification": {"accuracy": accuracy, "macro_f1": accuracy, "correct": 1, "n": 3, "unmatched": 0}
            if is_labelled
            else None,
            "latency": dict.fromkeys(
                (
                    "n",
                    "time_to_first_token_ms_p50",
                    "time_to_first_token_ms_p95",
                    "tokens_per_second_p50",
                    "end_to_end_ms_p50",
                    "end_to_end_ms_p95",
                ),
                1,
            ),
            "evaluation_seconds": 1.0,
        }

    return Evaluation.model_validate(
        {
            "run_id": "r",
            "rows": 3,
            "labels": LABELS if is_labelled else None,
            "base": scores(0.25),
            "tuned": scores(0.75),
            "samples": [{"line": 1, "prompt": "p", "expected": "e", "base": "b", "tuned": "t"}],
        }
    )


@pytest.mark.parametrize(("is_labelled", "words"), [(True, "accuracy 25.0%"), (False, "loss 0.750")])
def test_an_evaluation_is_said_in_one_sentence(world, is_labelled, words):
    task = world.running()
    with world.services() as s:
        s.job_worker.record_evaluation(task.job_id, task.fence, evaluation(is_labelled=is_labelled))
    message = world.messages(task.job_id)[-1]
    assert message.startswith("Evaluation on 3 held-out examples: ")
    assert words in message
    with world.services() as s:
        s.job_worker.release(task.job_id, task.fence)
    assert world.claim().has_evaluation is True


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        (
            {
                "spans": {
                    "precision": 1,
                    "recall": 1,
                    "f1": 0.5,
                    "f1_by_label": {},
                    "expected": 1,
                    "predicted": 1,
                    "correct": 1,
                }
            },
            "span F1 0.500 with a linear probe, 0.500 with the fine-tuned model",
        ),
        (
            {"text": {"rouge1": 0.4, "rouge2": 0.2, "rouge_l": 0.3, "length_ratio": 1.0, "n": 3}},
            "ROUGE-L 0.300 with a linear probe, 0.300 with the fine-tuned model (ROUGE-1 0.400 and 0.400)",
        ),
        (
            {"preference": {"accuracy": 0.75, "margin": 0.1, "n": 4}},
            "preferred answers ranked first 75.0% with a linear probe, 75.0% with the fine-tuned model",
        ),
    ],
)
def test_an_evaluation_is_said_by_the_figures_of_its_task(scores, words):
    given = evaluation(is_labelled=False).model_dump()
    given = {**given, "base": {**given["base"], **scores}, "tuned": {**given["tuned"], **scores}}
    said = event_texts.evaluated(Evaluation.model_validate({**given, "base_is": "a linear probe"}))
    assert said == f"Evaluation on 3 held-out examples: {words}"


def test_a_base_without_figures_of_the_task_is_compared_by_loss():
    report = evaluation(is_labelled=True)
    base = report.base.model_copy(update={"classification": None})
    said = event_texts.evaluated(report.model_copy(update={"base": base}))
    assert "loss 0.750 with the base model, 0.250 with the fine-tuned model" in said
