"""The route, with a scripted engine."""

import json

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from app.db.tables import BaseModelRow, IdempotencyKey
from app.errors import InvalidInput, Unavailable
from app.identity.policy import Role
from app.main import create_app
from tests.support.scripted_generator import ScriptedGenerator


@pytest.fixture
def engine():
    return ScriptedGenerator()


@pytest.fixture
def api(context, api_key, engine):
    row = BaseModelRow(
        id="tiny",
        folder="tiny",
        kind="causal_lm",
        licence="test",
        source="test",
        context_length=128,
        parameters=1000,
        has_chat_template=True,
        files={},
        weights_sha256="ab" * 32,
    )
    with context.database.unit_of_work() as work:
        work.session.add(row)
    headers = {"Authorization": f"Bearer {api_key}"}
    with TestClient(create_app(context, generator=engine), headers=headers, raise_server_exceptions=False) as client:
        yield client


def line(answer="yes", **more):
    return json.dumps(
        {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": answer, **more}]}
    )


def upload(api, *lines):
    content = ("\n".join(lines) + "\n").encode()
    answer = api.post("/v1/files", data={"purpose": "fine-tune"}, files={"file": ("rows.jsonl", content)})
    return answer.json()["id"]


def preview(api, file_id, **body):
    return api.post(f"/v1/files/{file_id}/preview", json={"model": "tiny", **body})


def test_rows_are_shown_with_their_sums_and_the_counts_of_the_file(api, engine):
    answer = preview(api, upload(api, *[line()] * 12), limit=3).json()
    assert answer["object"] == "file.preview"
    assert (answer["base"], answer["task"], answer["format"], answer["max_length"]) == ("tiny", "chat", "chat", 128)
    assert [row["line"] for row in answer["rows"]] == [1, 2, 3]
    assert answer["rows"][0]["parts"][0]["segments"][0]["is_trained"]
    assert answer["shown"] == {"rows": 3, "dropped_rows": 0, "truncated_rows": 0, "tokens": 3, "trained_tokens": 3}
    assert answer["file"] == {"rows": 12, "faulty_rows": 0, "fault_counts": {}, "is_complete": True}
    assert (answer["faults"], answer["warnings"]) == ([], [])
    (spec,) = engine.preview_specs
    assert (spec.base.id, spec.recipe, len(spec.rows), spec.max_length) == ("tiny", "chat", 3, 128)
    assert spec.base.path.endswith("/bases/tiny")


def test_faulty_rows_are_shown_and_a_job_is_warned_of(api):
    answer = preview(api, upload(api, line(), "{oops", *[line()] * 9, line(weight=0))).json()
    assert answer["file"]["faulty_rows"] == 2
    assert [fault["line"] for fault in answer["faults"]] == [2, 12]
    assert answer["warnings"][0].startswith("2 rows of the file are faulty: a job on it is refused")


def test_a_file_without_a_good_row_is_answered_without_the_engine(api, engine):
    answer = preview(api, upload(api, '{"messages": []}')).json()
    assert (answer["rows"], answer["shown"]["rows"], answer["task"]) == ([], 0, None)
    assert answer["file"]["faulty_rows"] == 1
    assert engine.preview_specs == []


def test_a_short_file_is_warned_of(api):
    answer = preview(api, upload(api, line())).json()
    assert answer["warnings"] == ["The file has 1 row to train on; a job needs at least 10."]


def test_the_sample_is_what_was_asked_for(api, engine):
    file_id = upload(api, *[line("x" * length) for length in (1, 9, 5, 7)])
    assert [row["line"] for row in preview(api, file_id, sample="longest", limit=2).json()["rows"]] == [2, 4]
    assert [row["line"] for row in preview(api, file_id, start_line=3).json()["rows"]] == [3, 4]
    first, again = (preview(api, file_id, sample="random", limit=2, seed=5).json()["rows"] for _ in range(2))
    assert first == again
    assert preview(api, file_id, max_length=16).json()["max_length"] == 16
    assert engine.preview_specs[-1].max_length == 16


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 101}, "limit"),
        ({"sample": "best"}, "sample"),
        ({"start_line": 0}, "start_line"),
        ({"max_length": 0}, "max_length"),
        ({"task": "painting"}, "task"),
        ({"task": "summarization"}, "task"),
        ({"method": "dpo"}, "method"),
        ({"rows": 3}, "rows"),
        ({"model": "absent"}, "model"),
    ],
)
def test_a_wrong_request_names_the_field(api, body, param):
    answer = preview(api, upload(api, line()), **body)
    assert answer.status_code == 400
    assert param in answer.json()["error"]["param"]


def test_another_teams_file_is_absent(api, services):
    file_id = upload(api, line())
    with services() as opened:
        team = opened.identity.create_team("Other", "other")
        _, key = opened.identity.create_key(team.id, "theirs", Role.ADMIN)
    answer = api.post(
        f"/v1/files/{file_id}/preview", json={"model": "tiny"}, headers={"Authorization": f"Bearer {key}"}
    )
    assert (answer.status_code, answer.json()["error"]["param"]) == (404, "file_id")


def test_a_viewer_may_look(api, services, api_key):
    file_id = upload(api, line())
    with services() as opened:
        team_id = opened.identity.authenticate(api_key).team_id
        _, key = opened.identity.create_key(team_id, "viewer", Role.VIEWER)
    answer = api.post(
        f"/v1/files/{file_id}/preview", json={"model": "tiny"}, headers={"Authorization": f"Bearer {key}"}
    )
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Unavailable("The serving engine is not reachable right now.", code="serving_engine_unreachable"), 503),
        (InvalidInput("The base is an encoder.", code="unsupported_task", param="model"), 400),
    ],
)
def test_what_the_engine_refuses_is_said(api, engine, error, status):
    engine.refuses_previews_with = error
    answer = preview(api, upload(api, line()))
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, error.code)


def test_no_text_of_the_file_is_kept_for_an_idempotency_key(api, context):
    headers = {"Idempotency-Key": "one"}
    file_id = upload(api, line("a secret"))
    assert api.post(f"/v1/files/{file_id}/preview", json={"model": "tiny"}, headers=headers).status_code == 200
    with context.database.unit_of_work() as work:
        (kept,) = work.session.scalars(select(IdempotencyKey)).all()
    assert kept.response is None


def test_a_table_of_texts_and_labels_is_shown_with_all_labels_of_the_file(api, engine):
    content = b"text,label\n" + b"".join(b"text %d,label%d\n" % (number, number % 3) for number in range(12))
    answer = api.post("/v1/files", data={"purpose": "fine-tune"}, files={"file": ("rows.csv", content)})
    answer = preview(api, answer.json()["id"], limit=1).json()
    assert (answer["task"], answer["format"], answer["warnings"]) == ("text-classification", "text_classification", [])
    (spec,) = engine.preview_specs
    assert (spec.recipe, spec.labels, spec.is_multi_label) == (
        "text_classification",
        ("label0", "label1", "label2"),
        False,
    )
