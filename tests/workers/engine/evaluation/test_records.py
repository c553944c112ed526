"""Chat models that answer with JSON objects are scored field by field."""

import json

from app.contracts.rows import ChatMessage, ChatRow
from tests.workers.engine.evaluation.conftest import chat_spec
from workers.engine.evaluation import chat
from workers.engine.evaluation.answers import Answer
from workers.engine.evaluation.run import evaluate


def record(number):
    return json.dumps({"order": number, "city": "Bern"})


def with_answers(decoder, folder, *, expected=record, rows=10):
    turns = [
        (ChatMessage(role="user", content=f"Order {n}"), ChatMessage(role="assistant", content=expected(n)))
        for n in range(rows)
    ]
    spec = chat_spec(decoder, folder, [ChatRow(line=line, messages=pair) for line, pair in enumerate(turns, start=1)])
    reports = []
    evaluate(decoder, spec, reports.append, lambda: None)
    return reports[-1]


def test_the_fields_of_every_answer_are_scored_and_a_broken_one_is_a_miss_and_no_crash(decoder, tmp_path, monkeypatch):
    def answers(_resident, adapter, questions, **_more):
        if adapter is None:
            return [Answer("{no json", is_stopped=False) for _ in questions]
        return [Answer(json.dumps({**json.loads(one.expected), "city": "Basel"}), is_stopped=True) for one in questions]

    monkeypatch.setattr(chat, "answer_all", answers)
    found = with_answers(decoder, tmp_path)
    base, tuned = ({one.name: one.value for one in scores.figures} for scores in (found.base, found.tuned))
    assert (base["field_f1"], base["valid_json"], base["stop_rate"]) == (0.0, 0.0, 0.0)
    assert (tuned["field_f1"], tuned["record_accuracy"], tuned["valid_json"]) == (0.5, 0.0, 1.0)
    assert {one.label: one.f1 for one in found.tuned.classes} == {"city": 0.0, "order": 1.0}
    assert found.judgement.decides == "field_f1"
    assert [one.name for one in found.judgement.comparisons] == ["field_f1", "record_accuracy", "loss"]


def test_a_real_model_writes_its_records_itself(decoder, tmp_path):
    found = with_answers(decoder, tmp_path)
    figures = {one.name: one for one in found.tuned.figures}
    assert figures["field_f1"].n == 10
    assert figures["valid_json"].value == 0.0, "an untrained model writes no JSON"


def test_one_answer_that_is_no_object_makes_the_rows_ordinary_chat(decoder, tmp_path):
    found = with_answers(decoder, tmp_path, expected=lambda n: record(n) if n else "I do not know")
    assert found.judgement.decides == "loss"
    assert found.tuned.classes == ()
