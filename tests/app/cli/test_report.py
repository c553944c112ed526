"""The comparison of base and tuned model shows the figures of the task."""

import pytest

from app.cli.report import print_comparison

OF_TEXT = ("time_to_first_token_ms_p50", "time_to_first_token_ms_p95", "tokens_per_second_p50")
LATENCY = {**dict.fromkeys(OF_TEXT), "end_to_end_ms_p50": 4.0, "end_to_end_ms_p95": 6.0}


def evaluation(base_is="the base model", **figures):
    scores = {"loss": 0.5, "token_accuracy": 0.9, "latency": LATENCY, **figures}
    return {"rows": 12, "base_is": base_is, "base": scores, "tuned": scores}


@pytest.mark.parametrize(
    ("figures", "words"),
    [
        ({"classification": {"accuracy": 0.75, "macro_f1": 0.7, "unmatched": 0}}, ["accuracy", "75.0%", "macro-F1"]),
        ({"spans": {"f1": 0.625, "precision": 0.5, "recall": 0.83}}, ["span F1", "0.625", "span recall"]),
        ({"text": {"rouge1": 0.4, "rouge2": 0.2, "rouge_l": 0.3, "length_ratio": 1.25}}, ["ROUGE-L", "0.300", "1.25"]),
        ({"preference": {"accuracy": 0.6, "margin": 0.12}}, ["preferred answers ranked first", "60.0%", "0.120"]),
        ({}, ["loss", "0.500"]),
    ],
)
def test_each_task_has_its_lines_and_no_others(capsys, figures, words):
    print_comparison(evaluation(**figures))
    said = capsys.readouterr().out
    assert all(word in said for word in words)
    groups = {"classification": "macro-F1", "spans": "span F1", "text": "ROUGE-L", "preference": "reward margin"}
    assert {group for group, line in groups.items() if line in said} == set(figures)
    assert "time to first token" not in said, "a model that writes no text has none"
    assert "token accuracy" not in said


def test_what_stands_for_the_base_is_named(capsys):
    print_comparison(evaluation("a linear probe on its frozen features"))
    assert "a linear probe on its frozen features" in capsys.readouterr().out
    print_comparison(evaluation())
    assert "the base model" not in capsys.readouterr().out
