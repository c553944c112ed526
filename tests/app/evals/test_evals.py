"""/v1/evals itself: what is kept, refused, paged and hidden from other teams."""

import pytest

from tests.support.eval_world import CLOSE, CUSTOM, EXACT, completions, jsonl, rows

PATHS = ("", "/runs", "/runs/RUN", "/runs/RUN/output_items")


def test_an_eval_shows_what_was_sent_and_the_schema_of_its_data(api, make_eval):
    eval_id = make_eval(EXACT, CLOSE, name="labels", metadata={"stage": "one"})
    shown = api.get(f"/v1/evals/{eval_id}").json()
    assert (shown["object"], shown["name"], shown["metadata"]) == ("eval", "labels", {"stage": "one"})
    assert shown["testing_criteria"] == [EXACT, CLOSE]
    config = shown["data_source_config"]
    assert (config["type"], config["schema"]["properties"]["item"]) == ("custom", CUSTOM["item_schema"])
    assert config["schema"]["required"] == ["item", "sample"]


def test_name_and_metadata_change_and_everything_else_stays(api, make_eval):
    eval_id = make_eval(metadata={"a": "b"})
    assert api.post(f"/v1/evals/{eval_id}", json={"name": "new"}).json()["metadata"] == {"a": "b"}
    changed = api.post(f"/v1/evals/{eval_id}", json={"metadata": None, "testing_criteria": []}).json()
    assert (changed["name"], changed["metadata"], changed["testing_criteria"]) == ("new", None, [EXACT])


def test_evals_are_paged_by_creation_or_by_change(api, make_eval):
    first, second, third = (make_eval(name=name) for name in "abc")
    api.post(f"/v1/evals/{first}", json={"name": "changed"})
    pages = [api.get("/v1/evals", params={"limit": 2}).json()]
    pages.append(api.get("/v1/evals", params={"limit": 2, "after": pages[0]["last_id"]}).json())
    assert [[row["id"] for row in page["data"]] for page in pages] == [[first, second], [third]]
    assert [page["has_more"] for page in pages] == [True, False]
    newest = api.get("/v1/evals", params={"order_by": "updated_at", "order": "desc"}).json()["data"]
    assert [row["id"] for row in newest] == [first, third, second]


def test_a_deleted_eval_takes_its_runs_along(api, make_eval, make_run):
    eval_id = make_eval()
    _, path = make_run(eval_id, jsonl(rows(("a", "a"))))
    assert api.delete(f"/v1/evals/{eval_id}").json() == {
        "object": "eval.deleted",
        "eval_id": eval_id,
        "deleted": True,
    }
    assert api.get(path).status_code == 404


@pytest.mark.parametrize("path", PATHS)
def test_another_team_s_eval_answers_as_one_that_does_not_exist(api, make_eval, make_run, other_team_key, path):
    eval_id = make_eval()
    run_id, _ = make_run(eval_id, jsonl(rows(("a", "a"))))
    headers = {"Authorization": f"Bearer {other_team_key}"}
    address = f"/v1/evals/{eval_id}{path.replace('RUN', run_id)}"
    theirs = api.get(address, headers=headers)
    absent = api.get(address.replace(eval_id, "eval_none"), headers=headers)
    assert theirs.status_code == absent.status_code == 404
    assert theirs.json()["error"]["message"].replace(eval_id, "eval_none") == absent.json()["error"]["message"]
    assert api.get("/v1/evals", headers=headers).json()["data"] == []


def test_a_run_of_another_eval_is_not_found_through_this_one(api, make_eval, make_run):
    run_id, _ = make_run(make_eval(), jsonl(rows(("a", "a"))))
    assert api.get(f"/v1/evals/{make_eval()}/runs/{run_id}").status_code == 404


@pytest.mark.parametrize(
    ("criterion", "code", "word"),
    [
        ({"type": "python", "name": "p", "source": "def grade(): ..."}, "grader_needs_sandbox", "sandbox"),
        ({**CLOSE, "evaluation_metric": "cosine"}, "grader_needs_embeddings", "embeddings"),
        ({**EXACT, "input": "{{row.x}}"}, "invalid_value", "'item' or 'sample'"),
        ({**EXACT, "operation": "matches"}, "invalid_value", "'eq', 'ne', 'like' or 'ilike'"),
        (
            {
                "type": "label_model",
                "name": "l",
                "model": "tiny",
                "labels": ["a"],
                "passing_labels": ["b"],
                "input": [{"role": "user", "content": "x"}],
            },
            "invalid_value",
            "not among the labels",
        ),
        (
            {
                "type": "score_model",
                "name": "s",
                "model": "tiny",
                "input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}],
            },
            "invalid_value",
            "read text only",
        ),
    ],
)
def test_a_grader_that_cannot_be_run_is_refused_when_it_is_sent(api, criterion, code, word):
    answer = api.post("/v1/evals", json={"data_source_config": CUSTOM, "testing_criteria": [criterion]})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["code"] == code
    assert word in error["message"]
    assert error["param"].startswith("testing_criteria[0]")


@pytest.mark.parametrize(
    ("source", "param"),
    [
        (completions(["a"], model="nobody"), "data_source.model"),
        ({**completions(["a"]), "input_messages": None}, "data_source.input_messages"),
        ({**completions(["a"]), "model": None}, "data_source.model"),
        ({"type": "responses", "source": {"type": "responses"}}, "data_source.source.type"),
        (
            completions(["a"], type="responses", sampling_params={"tools": [{"type": "web_search"}]}),
            "data_source.sampling_params.tools",
        ),
        (completions(["a"], sampling_params={"temperature": 3}), "data_source.sampling_params.temperature"),
        ({"type": "jsonl", "source": {"type": "file_content", "content": []}}, "data_source.source.content"),
    ],
)
def test_a_data_source_that_cannot_be_served_is_refused(api, make_eval, source, param):
    answer = api.post(f"/v1/evals/{make_eval()}/runs", json={"data_source": source})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def test_a_file_of_nobody_is_not_found(api, make_eval):
    source = {"type": "jsonl", "source": {"type": "file_id", "id": "file-none"}}
    assert api.post(f"/v1/evals/{make_eval()}/runs", json={"data_source": source}).status_code == 404


def test_a_grading_model_that_went_away_is_told_when_a_run_starts(api, make_eval):
    grader = {"type": "score_model", "name": "s", "model": "gone", "input": [{"role": "user", "content": "x"}]}
    answer = api.post(f"/v1/evals/{make_eval(grader)}/runs", json={"data_source": jsonl(rows(("a", "a")))})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "testing_criteria")


def test_runs_are_listed_by_status(api, world, make_eval, make_run):
    eval_id = make_eval()
    done, _ = make_run(eval_id, jsonl(rows(("a", "a"))))
    world.turn()
    waiting, _ = make_run(eval_id, jsonl(rows(("a", "a"))))
    path = f"/v1/evals/{eval_id}/runs"
    assert [run["id"] for run in api.get(path).json()["data"]] == [done, waiting]
    assert [run["id"] for run in api.get(path, params={"status": "queued"}).json()["data"]] == [waiting]
    assert api.get(path, params={"limit": 0}).json()["data"] == []


def test_a_run_is_canceled_at_either_address_and_only_before_its_end(api, world, make_eval, make_run):
    eval_id = make_eval()
    _, old = make_run(eval_id, jsonl(rows(("a", "a"))))
    _, new = make_run(eval_id, jsonl(rows(("a", "a"))))
    for address in (old, f"{new}/cancel", f"{new}/cancel"):
        assert api.post(address).json()["status"] == "canceled"
    _, done = make_run(eval_id, jsonl(rows(("a", "a"))))
    world.turn()
    answer = api.post(f"{done}/cancel")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "invalid_run_state")
    assert api.get(old).json()["result_counts"]["total"] == 0


def test_a_repeated_request_with_one_key_makes_one_run(api, make_eval):
    path = f"/v1/evals/{make_eval()}/runs"
    body = {"data_source": jsonl(rows(("a", "a")))}
    answers = [api.post(path, json=body, headers={"Idempotency-Key": "once"}).json()["id"] for _ in range(2)]
    assert len(set(answers)) == 1
    assert len(api.get(path).json()["data"]) == 1


def test_what_happened_is_audited(api, world, make_eval, make_run):
    eval_id = make_eval()
    run_id, _ = make_run(eval_id, jsonl(rows(("a", "a"))))
    world.turn()
    api.delete(f"/v1/evals/{eval_id}")
    with world.services() as s:
        actions = {
            object_id: [event.action for event in s.audit.page(world.caller.team_id, object_id=object_id).rows]
            for object_id in (eval_id, run_id)
        }
    assert actions == {
        eval_id: ["eval.delete", "eval.create"],
        run_id: ["eval_run.complete", "eval_run.create"],
    }


def test_a_viewer_reads_and_does_not_write(api, services, world, make_eval):
    from app.identity.policy import Role  # noqa: PLC0415

    eval_id = make_eval()
    with services() as s:
        _, key = s.identity.create_key(world.caller.team_id, "v", Role.VIEWER)
    headers = {"Authorization": f"Bearer {key}"}
    assert api.get(f"/v1/evals/{eval_id}", headers=headers).status_code == 200
    assert api.delete(f"/v1/evals/{eval_id}", headers=headers).status_code == 403
