"""Runs from the request to the last output item, over the API and a worker with a scripted engine."""

import asyncio
import dataclasses
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from app.errors import InvalidInput, Unavailable
from app.evals.run_messages import NewItem, ScoredItem
from app.evals.sources import from_content
from app.jobs.fencing import Fenced
from tests.support.eval_world import CLOSE, EXACT, completions, jsonl, rows
from tests.support.scripted_generator import ScriptedGenerator, saying
from workers.supervisor.held_job import HeldRun
from workers.supervisor.lease import Lease
from workers.supervisor.score_run import Scoring, score_run

THREE = rows(("billing", "billing"), ("billing", "biling"), ("billing", "delivery"))


def items(api, path, **query):
    return api.get(f"{path}/output_items", params=query).json()


def test_given_samples_are_judged_by_every_criterion(api, world, make_eval, make_run):
    _, path = make_run(make_eval(EXACT, CLOSE), jsonl(THREE), name="first")
    world.turn()
    run = api.get(path).json()
    assert (run["status"], run["name"], run["total_items"]) == ("completed", "first", 3)
    assert run["result_counts"] == {"total": 3, "passed": 1, "failed": 2, "errored": 0}
    exact, close = run["per_testing_criteria_results"]
    assert (exact["testing_criteria"], exact["passed"], exact["failed"]) == ("exact", 1, 2)
    assert (close["testing_criteria"], close["passed"], close["failed"]) == ("close", 2, 1)
    # Wilson's interval of 1 in 3, from R's binom.wilson.
    assert exact["pass_rate_low"] == pytest.approx(0.0614919447, abs=1e-9)
    assert exact["pass_rate_high"] == pytest.approx(0.7923403992, abs=1e-9)
    assert api.get(run["report_url"]).json() == run
    assert world.generator.specs == []


def test_a_model_is_asked_about_every_item_and_its_tokens_are_counted(api, world, make_eval, make_run):
    _, path = make_run(make_eval(), completions(["billing", "delivery"], sampling_params={"max_completion_tokens": 5}))
    world.turn()
    run = api.get(path).json()
    assert run["result_counts"] == {"total": 2, "passed": 1, "failed": 1, "errored": 0}
    assert run["per_model_usage"] == [
        {
            "model_name": "tiny",
            "invocation_count": 2,
            "prompt_tokens": 6,
            "completion_tokens": 2,
            "total_tokens": 8,
            "cached_tokens": 0,
        }
    ]
    spec = min(world.generator.specs, key=lambda spec: spec.messages[1]["content"])
    assert [message["content"] for message in spec.messages] == ["Answer with one word.", "Repeat: billing"]
    assert (spec.sampling.max_new_tokens, spec.sampling.temperature, spec.sampling.seed) == (5, 1.0, 42)
    first = items(api, path)["data"][0]
    assert first["sample"]["input"][1] == {"role": "user", "content": "Repeat: billing"}
    assert first["sample"]["output"] == [{"role": "assistant", "content": "billing"}]
    assert (first["datasource_item_id"], first["status"]) == (0, "pass")


def test_messages_may_stand_in_the_item(api, world, make_eval, make_run):
    source = completions([])
    source["source"]["content"] = [{"item": {"label": "billing", "turns": [{"role": "user", "content": "hello"}]}}]
    source["input_messages"] = {"type": "item_reference", "item_reference": "item.turns"}
    _, path = make_run(make_eval(), source | {"type": "responses"})
    world.turn()
    assert api.get(path).json()["result_counts"]["passed"] == 1
    assert world.generator.specs[0].messages == ({"role": "user", "content": "hello"},)


def test_a_bad_row_is_an_errored_item_and_the_others_are_judged(api, world, make_eval, make_run):
    file_id = world.add_file(THREE[0], "{broken", {"no": "item"}, {"item": {}}, '{"item": {"label": "\\u0000"}}', "")
    _, path = make_run(make_eval(), {"type": "jsonl", "source": {"type": "file_id", "id": file_id}})
    world.turn()
    run = api.get(path).json()
    assert run["status"] == "completed"
    assert run["result_counts"] == {"total": 5, "passed": 1, "failed": 0, "errored": 4}
    found = items(api, path, status="error")["data"]
    codes = [(item["sample"]["error"]["code"], item["datasource_item_id"]) for item in found]
    assert codes == [("invalid_row", 1), ("invalid_row", 2), ("item_schema_mismatch", 3), ("invalid_row", 4)]
    assert "line 2" in found[0]["sample"]["error"]["message"]
    rate = run["per_testing_criteria_results"][0]
    assert (rate["errored"], rate["pass_rate"]) == (4, 1.0)


def test_a_question_the_model_refuses_costs_its_item_only(api, world, make_eval, make_run):
    refusal = InvalidInput("Too long.", code="context_length_exceeded")
    world.generator.scripts = [[refusal], saying("billing")]
    _, path = make_run(make_eval(), completions(["billing", "billing"]))
    world.turn(at_once=1)
    assert api.get(path).json()["result_counts"] == {"total": 2, "passed": 1, "failed": 0, "errored": 1}
    assert items(api, path, status="error")["data"][0]["sample"]["error"]["code"] == "context_length_exceeded"


def test_a_run_without_rows_fails_and_says_why(api, world, make_eval, make_run):
    file_id = world.add_file("", "")
    _, path = make_run(make_eval(), {"type": "jsonl", "source": {"type": "file_id", "id": file_id}})
    world.turn()
    run = api.get(path).json()
    assert (run["status"], run["error"]["code"]) == ("failed", "no_items")


def test_a_file_that_went_away_fails_the_run(api, world, make_eval, make_run):
    file_id = world.add_file(*THREE)
    _, path = make_run(make_eval(), {"type": "jsonl", "source": {"type": "file_id", "id": file_id}})
    assert api.delete(f"/v1/files/{file_id}").status_code == 200
    world.turn()
    run = api.get(path).json()
    assert (run["status"], run["error"]["code"]) == ("failed", "resource_missing")


def test_an_engine_that_is_away_is_waited_for_and_nothing_is_judged_twice(api, world, make_eval, make_run):
    world.generator.scripts = [saying("billing"), [Unavailable("away")], saying("billing")]
    run_id, path = make_run(make_eval(), completions(["billing"] * 3))
    world.turn(at_once=1)
    row = world.run_row(run_id)
    assert (row.status, row.owner, row.attempts) == ("in_progress", None, 1)
    assert api.get(path).json()["result_counts"]["total"] == 1
    world.turn(at_once=1)
    assert len(world.generator.specs) == 2, "the run is taken up before its pause is over"
    world.change(run_id, not_before=None)
    world.turn(at_once=1)
    run = api.get(path).json()
    assert (run["status"], run["result_counts"]["passed"], world.run_row(run_id).attempts) == ("completed", 3, 0)
    assert run["per_model_usage"][0]["invocation_count"] == 3


def test_an_engine_that_stays_away_fails_the_run_after_three_attempts(api, world, make_eval, make_run):
    world.generator.scripts = [[Unavailable("nobody there")]]
    run_id, path = make_run(make_eval(), completions(["billing"]))
    for _ in range(3):
        world.change(run_id, not_before=None)
        world.turn()
    run = api.get(path).json()
    assert (run["status"], run["error"]["code"]) == ("failed", "worker_crashed")
    assert "nobody there" in run["error"]["message"]


def test_a_killed_worker_s_run_goes_on_where_it_was(api, world, make_eval, make_run):
    run_id, path = make_run(make_eval(), jsonl(THREE))
    with world.services() as s:
        task = s.eval_worker.claim("cpu9@gone/1")

    with world.services() as s:
        s.eval_worker.add_items(run_id, task.fence, list(from_content(task.data_source.source.content))[:2])
    world.turn()
    assert api.get(path).json()["status"] == "in_progress", "another worker's lease is respected"
    world.change(run_id, lease_until=datetime.now(UTC) - timedelta(seconds=1))
    world.turn()
    run = api.get(path).json()
    assert (run["status"], run["result_counts"]["total"]) == ("completed", 3)
    assert [row.position for row in world.item_rows(run_id)] == [0, 1, 2]
    with pytest.raises(Fenced), world.services() as s:
        s.eval_worker.finish_layout(run_id, task.fence, 2)


def test_recording_an_item_twice_counts_it_once(world, make_eval, make_run):

    run_id, _ = make_run(make_eval(), jsonl(THREE[:1]))
    with world.services() as s:
        task = s.eval_worker.claim(world.name.owner)
        s.eval_worker.add_items(run_id, task.fence, [NewItem(0, {"label": "x"})])
        item = s.eval_worker.pending(run_id, from_position=0, limit=1)[0]
    scored = ScoredItem(item.id, "passed", {}, [], ("passed",), ())
    for _ in range(2):
        with world.services() as s:
            s.eval_worker.record(run_id, task.fence, [scored])
    assert world.run_row(run_id).tally["passed"] == 1


def test_a_worker_that_starts_anew_gives_back_its_runs(world, make_eval, make_run):
    run_id, _ = make_run(make_eval(), jsonl(THREE))
    with world.services() as s:
        s.eval_worker.claim("cpu0@test-host/earlier")
    with world.services() as s:
        assert s.eval_worker.release_previous("cpu0@test-host", "now") == 1
    assert world.run_row(run_id).owner is None


def test_runs_take_turns(api, world, make_eval, make_run):
    eval_id = make_eval()
    _, long = make_run(eval_id, jsonl(THREE * 100))
    _, short = make_run(eval_id, jsonl(THREE))
    shutdown = threading.Event()
    with world.services() as s:
        first = s.eval_worker.claim(world.name.owner)
        s.eval_worker.release(first.run_id, first.fence)
    with world.services() as s:
        second = s.eval_worker.claim(world.name.owner)
        s.eval_worker.release(second.run_id, second.fence)
    assert [first.run_id in long, second.run_id in short] == [True, True]
    world.turn(shutdown=shutdown)
    assert {api.get(path).json()["status"] for path in (long, short)} == {"completed"}


def test_a_turn_that_is_over_leaves_the_rest_for_the_next(api, world, make_eval, make_run):
    run_id, path = make_run(make_eval(), jsonl(THREE))
    with world.services() as s:
        task = s.eval_worker.claim(world.name.owner)

    held = HeldRun(world.context, run_id, task.fence, Lease(30, granted_at=time.monotonic()))
    score_run(held, task, Scoring(lambda _: world.generator, turn_seconds=0.0), threading.Event())
    row = world.run_row(run_id)
    assert (row.status, row.owner, row.total, row.attempts) == ("in_progress", None, 3, 0)
    world.turn()
    assert api.get(path).json()["status"] == "completed"


def test_a_run_is_canceled_while_it_is_scored(context, world, api, make_eval, make_run):
    run_id, path = make_run(make_eval(), completions(["billing"] * 40))
    begun = threading.Event()
    world.generator = HoldingGenerator(begun, after=3)
    world.context = quick(context)
    worker = threading.Thread(target=lambda: world.turn(at_once=1))
    worker.start()
    assert begun.wait(10)
    assert api.post(f"{path}/cancel").json()["status"] == "canceled"
    worker.join(10)
    assert not worker.is_alive(), "the worker goes on with a canceled run"
    run = api.get(path).json()
    assert (run["status"], run["result_counts"]["total"], run["total_items"]) == ("canceled", 3, 40)
    assert world.run_row(run_id).owner is None
    assert world.generator.open_answers == 0


class HoldingGenerator(ScriptedGenerator):
    """Answers `after` questions, then hangs until its reader goes away."""

    def __init__(self, begun, *, after):
        super().__init__(saying("billing"))
        self._begun, self._after = begun, after

    async def generate(self, spec):

        if len(self.specs) >= self._after:
            self._begun.set()
            await asyncio.Event().wait()
        async for line in super().generate(spec):
            yield line


def quick(context):

    return dataclasses.replace(context, settings=context.settings.model_copy(update={"heartbeat_seconds": 0.1}))


def test_a_run_that_is_deleted_stops_its_worker(context, world, api, make_eval, make_run):
    _, path = make_run(make_eval(), completions(["billing"] * 4))
    begun = threading.Event()
    world.generator = HoldingGenerator(begun, after=1)
    world.context = quick(context)
    worker = threading.Thread(target=lambda: world.turn(at_once=1))
    worker.start()
    assert begun.wait(10)
    assert api.delete(path).json()["deleted"] is True
    worker.join(10)
    assert not worker.is_alive()
    assert api.get(path).status_code == 404


def test_stored_completions_are_judged_and_asked_again(api, world, make_eval, make_run):
    ask = {"model": "tiny", "messages": [{"role": "user", "content": "Which?"}], "store": True}
    for use in ("support", "sales"):
        assert api.post("/v1/chat/completions", json=ask | {"metadata": {"use": use}}).status_code == 200
    judge = {**EXACT, "reference": "billing"}
    eval_id = make_eval(judge, config={"type": "logs", "metadata": {"use": "support"}})
    _, kept = make_run(eval_id, {"type": "completions", "source": {"type": "stored_completions"}})
    again = {"type": "completions", "model": "tiny", "source": {"type": "stored_completions", "model": "tiny"}}
    _, asked = make_run(eval_id, again)
    world.turn()
    for path in (kept, asked):
        assert api.get(path).json()["result_counts"] == {"total": 1, "passed": 1, "failed": 0, "errored": 0}
    assert len(world.generator.specs) == 3
    assert items(api, kept)["data"][0]["datasource_item"]["input"] == ask["messages"]


def test_models_judge_and_unreadable_judgements_are_errors(api, world, make_eval, make_run):
    score = {
        "type": "score_model",
        "name": "score",
        "model": "tiny",
        "input": [{"role": "user", "content": "Rate {{sample.output_text}}"}],
        "range": [0, 10],
        "pass_threshold": 7,
    }
    label = {
        "type": "label_model",
        "name": "tone",
        "model": "tiny",
        "input": [{"role": "user", "content": "Tone of {{sample.output_text}}?"}],
        "labels": ["kind", "rude"],
        "passing_labels": ["kind"],
    }
    world.generator.scripts = [saying('{"result": 8}'), saying("Kind."), saying("hm"), saying('{"result": "rude"}')]
    _, path = make_run(make_eval(score, label), jsonl(THREE[:2]))
    world.turn(at_once=1)
    first, second = items(api, path)["data"]
    assert [(r["score"], r["passed"]) for r in first["results"]] == [(8.0, True), (1.0, True)]
    assert second["results"][0]["error"]["code"] == "model_grader_parse_error"
    assert (second["results"][1]["label"], second["results"][1]["passed"]) == ("rude", False)
    assert (first["status"], second["status"]) == ("pass", "error")
    asked = world.generator.specs[0]
    assert asked.messages[0]["content"].startswith("Rate billing\n\nAnswer with JSON only")
    assert asked.sampling.temperature == 0.0
    assert api.get(path).json()["per_model_usage"][0]["invocation_count"] == 4


def test_output_items_are_paged_filtered_and_ordered(api, world, make_eval, make_run):
    _, path = make_run(make_eval(), jsonl(THREE * 4))
    world.turn()
    seen, after = [], None
    while True:
        page = items(api, path, limit=5, **({"after": after} if after else {}))
        seen += [item["datasource_item_id"] for item in page["data"]]
        if not page["has_more"]:
            break
        after = page["last_id"]
    assert seen == list(range(12))
    assert [item["datasource_item_id"] for item in items(api, path, order="desc", status="pass")["data"]] == [
        9,
        6,
        3,
        0,
    ]
    assert len(items(api, path, status="fail")["data"]) == 8
    one = items(api, path)["data"][0]
    assert api.get(f"{path}/output_items/{one['id']}").json() == one
    assert one["results"] == [{"name": "exact", "type": "string_check", "passed": True, "score": 1.0}]


def test_a_worker_that_leaves_drops_what_it_is_at_and_gives_the_run_back(world, make_eval, make_run):
    run_id, _ = make_run(make_eval(), completions(["billing"] * 4))
    begun, shutdown = threading.Event(), threading.Event()
    world.generator = HoldingGenerator(begun, after=2)
    worker = threading.Thread(target=lambda: world.turn(at_once=1, shutdown=shutdown))
    worker.start()
    assert begun.wait(10)
    shutdown.set()
    worker.join(10)
    assert not worker.is_alive()
    row = world.run_row(run_id)
    assert (row.status, row.owner, row.attempts, row.tally["passed"]) == ("in_progress", None, 0, 2)


def test_a_run_that_cannot_be_read_fails_and_holds_nobody_up(api, world, make_eval, make_run):
    eval_id = make_eval()
    broken, path = make_run(eval_id, jsonl(THREE))
    _, good = make_run(eval_id, jsonl(THREE))
    world.change(broken, data_source={"type": "of another version"})
    world.turn()
    world.turn()
    assert api.get(path).json()["error"]["code"] == "run_unreadable"
    assert api.get(good).json()["status"] == "completed"
