"""Models as graders and runs ask them: tuned ones with their adapters, classifiers without a form."""

import hashlib
import io
import tarfile

import pytest

from app.db.tables import BaseModelRow, TunedModel
from tests.support.eval_world import EXACT, completions, jsonl, rows
from tests.support.predictions import labels, predicted
from tests.support.scripted_generator import saying

TUNED = "ft:tiny:default::abcd1234"
WEIGHTS = b"weights of an adapter"
JUDGE = {
    "type": "label_model",
    "name": "topic",
    "model": TUNED,
    "input": [{"role": "user", "content": "{{sample.output_text}}"}],
    "labels": ["billing", "delivery"],
    "passing_labels": ["billing"],
}


@pytest.fixture
def tuned(world):
    """A tuned model of the team with its archive in the store."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo("adapter_model.safetensors")
        entry.size = len(WEIGHTS)
        tar.addfile(entry, io.BytesIO(WEIGHTS))
    writer = world.context.artifacts.open_writer("adapters/one.tar")
    writer.write(buffer.getvalue())
    stored = writer.commit()
    row = TunedModel(
        id=TUNED,
        team_id=world.caller.team_id,
        base_id="tiny",
        job_id="ftjob-1",
        step=3,
        is_final=True,
        adapter_sha256=hashlib.sha256(WEIGHTS).hexdigest(),
        archive_key=stored.key,
        archive_sha256=stored.sha256,
        archive_bytes=stored.bytes,
        files={},
    )
    with world.services() as s:
        s.work.session.add(row)
    return row


def test_a_tuned_model_is_sampled_with_its_adapter(api, world, make_eval, make_run, tuned):
    _, path = make_run(make_eval(), completions(["billing"], model=TUNED))
    world.turn()
    run = api.get(path).json()
    assert (run["status"], run["model"], run["result_counts"]["passed"]) == ("completed", TUNED, 1)
    assert world.generator.specs[0].adapter.sha256 == tuned.adapter_sha256


def test_a_damaged_adapter_fails_the_run_and_never_asks_the_plain_base(api, world, make_eval, make_run, tuned):
    world.context.artifacts.delete(tuned.archive_key)
    _, path = make_run(make_eval(), completions(["billing"], model=TUNED))
    world.turn()
    run = api.get(path).json()
    assert (run["status"], run["error"]["code"]) == ("failed", "adapter_damaged")
    assert world.generator.specs == []


def test_a_tuned_classifier_judges_the_text_as_it_is(api, world, make_eval, make_run, tuned):
    with world.services() as s:
        s.work.session.get_one(TunedModel, TUNED).recipe = "text_classification"
        s.work.session.get_one(BaseModelRow, "tiny").kind = "encoder"
    world.generator.predictions = [predicted(labels(("billing", 0.75), ("delivery", 0.25)))]
    _, path = make_run(make_eval(JUDGE), jsonl(rows(("x", "charged twice"))))
    world.turn()
    assert api.get(path).json()["result_counts"]["passed"] == 1
    assert world.generator.asked[0].inputs == ("charged twice",)


def test_a_model_deleted_before_its_turn_fails_the_run(api, world, make_eval, make_run, tuned):
    _, path = make_run(make_eval(EXACT), completions(["billing"], model=TUNED))
    assert api.delete(f"/v1/models/{TUNED}").status_code == 200
    world.turn()
    run = api.get(path).json()
    assert (run["status"], run["error"]["code"]) == ("failed", "resource_missing")
    assert TUNED in run["error"]["message"]


def test_what_postgres_cannot_store_is_stored_as_a_replacement(api, world, make_eval, make_run):
    world.generator.scripts = [saying("a\x00b \\u0000")]
    _, path = make_run(make_eval(), completions(["billing"]))
    world.turn()
    item = api.get(f"{path}/output_items").json()["data"][0]
    assert item["sample"]["output"][0]["content"] == "a\ufffdb \\u0000"


def test_half_a_surrogate_pair_in_a_sample_costs_its_item_only(api, world, make_eval, make_run):
    judge = {**EXACT, "input": "{{sample.output_json.x}}"}
    _, path = make_run(make_eval(judge), jsonl(rows(("a", '{"x": "\\ud800"}'), ("a", '{"x": "a"}'))))
    world.turn()
    counts = api.get(path).json()["result_counts"]
    assert (counts["errored"], counts["passed"]) == (1, 1)
