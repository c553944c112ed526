"""The unmodified client in strict validation: an eval with two graders on given samples and on a model's answers."""

import pytest

from tests.support.eval_world import CLOSE, CUSTOM, EXACT, completions, jsonl, rows
from tests.support.scripted_generator import saying


@pytest.fixture
def made(openai_client, world):
    return openai_client.evals.create(
        name="labels",
        data_source_config=CUSTOM,
        testing_criteria=[EXACT, CLOSE],
        metadata={"kind": "test"},
    )


def test_an_eval_is_made_found_renamed_and_deleted(openai_client, made):
    evals = openai_client.evals
    assert evals.retrieve(made.id).to_dict() == made.to_dict()
    assert [found.id for found in evals.list(order_by="updated_at", order="desc")] == [made.id]
    assert evals.update(made.id, name="new", metadata={}).name == "new"
    assert evals.delete(made.id).deleted is True
    assert list(evals.list()) == []


def test_given_samples_and_a_model_are_judged_and_the_items_are_paged(openai_client, world, made):
    runs = openai_client.evals.runs
    samples = [("billing", "billing"), ("billing", "biling"), ("delivery", "card")] * 3
    given = runs.create(made.id, name="given", data_source=jsonl(rows(*samples)))
    world.generator.scripts = [saying("billing")]
    asked = runs.create(made.id, data_source=completions(["billing", "delivery"]), metadata={"which": "base"})
    world.turn()
    given, asked = runs.retrieve(given.id, eval_id=made.id), runs.retrieve(asked.id, eval_id=made.id)
    assert (given.status, asked.status, asked.model) == ("completed", "completed", "tiny")
    assert given.result_counts.model_dump() == {"errored": 0, "failed": 6, "passed": 3, "total": 9}
    assert asked.per_model_usage[0].invocation_count == 2
    rates = [(found.passed, found.model_extra["pass_rate"]) for found in given.per_testing_criteria_results]
    assert rates == [(3, 3 / 9), (6, 6 / 9)]
    assert all(
        found.model_extra["pass_rate_low"] < found.model_extra["pass_rate"] < found.model_extra["pass_rate_high"]
        for found in given.per_testing_criteria_results
    )
    seen = list(runs.output_items.list(given.id, eval_id=made.id, limit=2))
    assert [item.datasource_item_id for item in seen] == list(range(9))
    failed = list(runs.output_items.list(given.id, eval_id=made.id, limit=4, status="fail", order="desc"))
    assert [item.datasource_item_id for item in failed] == [8, 7, 5, 4, 2, 1]
    one = runs.output_items.retrieve(seen[1].id, eval_id=made.id, run_id=given.id)
    assert [(result.name, result.passed) for result in one.results] == [("exact", False), ("close", True)]
    assert one.sample.output[0].content == "biling"
    assert [run.id for run in runs.list(made.id, status="completed")] == [given.id, asked.id]


def test_a_run_is_canceled_and_deleted(openai_client, world, made):
    runs = openai_client.evals.runs
    run = runs.create(made.id, data_source=completions(["billing"]))
    assert runs.cancel(run.id, eval_id=made.id).status == "canceled"
    world.turn()
    assert runs.retrieve(run.id, eval_id=made.id).result_counts.total == 0
    assert runs.delete(run.id, eval_id=made.id).deleted is True
    assert list(runs.list(made.id)) == []


def test_items_that_could_not_be_judged_pass_the_strict_client_too(openai_client, world, made):
    runs = openai_client.evals.runs
    source = jsonl([{"item": {}}, {"item": {"label": "a"}}])
    run = runs.create(made.id, data_source=source)
    world.turn()
    items = list(runs.output_items.list(run.id, eval_id=made.id))
    assert [item.status for item in items] == ["error", "error"]
    assert items[0].sample.error.code == "item_schema_mismatch"
    assert items[1].results[0].model_extra["error"]["code"] == "invalid_variable_error"


def test_all_kinds_of_graders_and_sources_pass_the_strict_client(openai_client, world):
    message = {"role": "system", "content": {"type": "input_text", "text": "Rate {{item.x}}"}}
    made = openai_client.evals.create(
        data_source_config={"type": "stored_completions", "metadata": {"use": "x"}},
        testing_criteria=[
            {"type": "score_model", "name": "s", "model": "tiny", "input": [message], "range": [0, 1]},
            {
                "type": "label_model",
                "name": "l",
                "model": "tiny",
                "input": [{"role": "user", "content": "x"}],
                "labels": ["a"],
                "passing_labels": ["a"],
            },
            CLOSE,
        ],
    )
    assert [criterion.type for criterion in made.testing_criteria] == ["score_model", "label_model", "text_similarity"]
    runs = openai_client.evals.runs
    sampling = {"temperature": 0, "max_completion_tokens": 4, "response_format": {"type": "json_object"}}
    runs.create(made.id, data_source=completions(["a"], sampling_params=sampling))
    sampling = {"temperature": 0, "text": {"format": {"type": "text"}}}
    runs.create(made.id, data_source=completions(["a"], type="responses", sampling_params=sampling))
    stored = {"type": "completions", "source": {"type": "stored_completions", "limit": 3, "created_after": 5}}
    runs.create(made.id, data_source=stored)
    assert [run.data_source.type for run in runs.list(made.id)] == ["completions", "responses", "completions"]
