"""One shape for every error, with sentences a sender can act on."""

import errno

import pytest
from fastapi import FastAPI
from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from starlette.testclient import TestClient

from app.api.errors import describe, install, render
from app.db.idempotency import KeyInUse
from app.errors import Conflict, Unauthorized


class Hyper(BaseModel):
    n_epochs: int | str = Field(default=1, union_mode="left_to_right")
    rate: float = Field(default=1.0, gt=0)


class Job(BaseModel):
    model: str
    hyper: Hyper | None = None
    tags: list[int] = []


def faults(body):
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(Job).validate_python(body)
    found = caught.value.errors()
    for fault in found:
        fault["loc"] = ("body", *fault["loc"])
    return found


def test_a_missing_parameter_is_named():
    error = describe(faults({}), {})
    assert (error.message, error.param, error.code) == (
        "Missing required parameter: 'model'.", "model", "missing_required_parameter",
    )  # fmt: skip


def test_a_nested_value_is_named_by_its_path_without_the_names_of_union_members():
    body = {"model": "m", "hyper": {"n_epochs": [1], "rate": -1}, "tags": [1, "x"]}
    error = describe(faults(body), body)
    assert error.param == "hyper.n_epochs"
    assert (
        "Invalid value for 'hyper.n_epochs': input should be a valid integer, or input should be a valid string."
        in (error.message)
    )
    assert "'hyper.rate': input should be greater than 0" in error.message
    assert "'tags[1]'" in error.message


def test_only_a_handful_of_faults_is_spelt_out():
    body = {"model": "m", "tags": ["x"] * 9}
    assert describe(faults(body), body).message.endswith("And 4 more.")


def test_a_body_that_is_no_object_says_how_to_send_one(client):
    for content, kind in ((b"[]", "application/json"), (b"name=x", "application/x-www-form-urlencoded"), (b"", "")):
        answer = client.post("/v1/teams/keys", content=content, headers={"content-type": kind} if kind else {})
        assert answer.status_code == 400
        assert "Content-Type: application/json" in answer.json()["error"]["message"]


def test_a_query_value_is_named(client):
    error = client.get("/v1/files?limit=-1").json()["error"]
    assert (error["param"], error["type"]) == ("limit", "invalid_request_error")


def test_an_unknown_url_and_a_wrong_method_answer_in_the_standard_shape(client):
    unknown = client.get("/v1/voices/x")
    assert unknown.status_code == 404
    assert unknown.json() == {
        "error": {
            "message": "Invalid URL (GET /v1/voices/x)", "type": "invalid_request_error", "param": None, "code": None,
        }
    }  # fmt: skip
    wrong = client.put("/v1/files")
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (405, "method_not_supported")
    assert wrong.headers["allow"]


def test_a_final_conflict_is_not_retried_and_one_that_will_pass_is():
    assert render(Conflict("no")).headers["x-should-retry"] == "false"
    assert render(KeyInUse("wait")).headers["x-should-retry"] == "true"


def test_an_unauthorized_answer_names_its_scheme():
    assert render(Unauthorized("who")).headers["www-authenticate"] == "Bearer"


def test_a_database_that_is_away_is_a_503_that_clients_retry(context, client, monkeypatch):
    from sqlalchemy.exc import OperationalError  # noqa: PLC0415
    from sqlalchemy.orm import Session  # noqa: PLC0415

    def away(*_, **__):
        raise OperationalError("SELECT 'secret'", {}, Exception("connection refused"))

    monkeypatch.setattr(Session, "execute", away)
    answer = client.get("/v1/files")
    assert (answer.status_code, answer.json()["error"]["type"]) == (503, "server_error")
    assert "secret" not in answer.text


def failing_service(error):
    app = FastAPI()
    install(app)

    @app.post("/v1/files")
    def upload():
        raise error

    return TestClient(app, raise_server_exceptions=False)


def test_a_full_disk_is_named_and_the_sender_told_that_nothing_was_kept():
    answer = failing_service(OSError(errno.ENOSPC, "No space left on device", "/srv/store/.incoming/9f")).post(
        "/v1/files"
    )
    assert answer.status_code == 507
    error = answer.json()["error"]
    assert (error["type"], error["code"]) == ("server_error", "storage_full")
    assert error["message"] == "The service's storage is full; nothing of this request was kept. Tell its operator."


def test_any_other_fault_of_a_disk_stays_an_internal_error():
    assert failing_service(OSError(errno.EIO, "Input/output error")).post("/v1/files").status_code == 500
