"""What surrounds every request: ids, limits, and the last net."""

import pytest
from fastapi.testclient import TestClient

from app.main import create_app


def test_every_answer_carries_the_headers_that_openais_clients_read(client):
    for path in ("/health/live", "/v1/nope", "/v1/files"):
        headers = client.get(path).headers
        assert headers["x-request-id"].startswith("req_")
        assert headers["openai-version"] == "2020-10-01"
        assert headers["openai-organization"] == "tunesmith"
        assert int(headers["openai-processing-ms"]) >= 0


def test_each_request_has_an_id_of_its_own(client):
    assert client.get("/health/live").headers["x-request-id"] != client.get("/health/live").headers["x-request-id"]


@pytest.mark.parametrize(
    ("value", "status"), [("trace-1", 200), ("x" * 512, 200), ("x" * 513, 400), ("ä", 400), ("", 400)]
)
def test_a_clients_request_id_is_ascii_of_at_most_512(client, value, status):
    answer = client.get("/health/live", headers={"x-client-request-id": value.encode("latin-1")})
    assert answer.status_code == status
    if status == 400:
        assert "X-Client-Request-Id" in answer.json()["error"]["message"]


def test_an_unexpected_fault_is_a_500_with_its_request_id_and_no_internals(context, api_key, caplog):
    api = create_app(context)

    @api.get("/boom")
    def boom():
        raise ZeroDivisionError("a secret of the house")

    with TestClient(api) as client:
        answer = client.get("/boom")
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["param"], error["code"]) == (500, "server_error", None, None)
    assert answer.headers["x-request-id"] in error["message"]
    assert "secret" not in answer.text
    assert "a secret of the house" in caplog.text


def test_a_body_beyond_the_limit_is_refused_by_its_announcement(client):
    answer = client.post("/v1/teams/keys", content=b"{}", headers={"content-length": str(10**9)})
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")


def test_a_body_beyond_the_limit_is_refused_while_it_streams(client, context):
    sent = 0

    def chunks():
        nonlocal sent
        while True:
            sent += 1024 * 1024
            yield b" " * (1024 * 1024)

    answer = client.post("/v1/teams/keys", content=bounded(chunks(), 64), headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")


def bounded(chunks, count):
    for _, chunk in zip(range(count), chunks, strict=False):
        yield chunk


@pytest.mark.parametrize("path", ["/v1/files/%00", "/v1/files?after=%00", "/v1/models/a%00b"])
def test_a_nul_in_the_url_is_refused(client, path):
    assert client.get(path).status_code == 400


@pytest.mark.parametrize(
    "body", [b'{"name": "\\u0000"}', b'{"name": "\\ud800"}', b'{"name": NaN}', b'{"name": 1e999}', b"[" * 100_000]
)
def test_hostile_json_is_a_400_and_is_not_echoed(client, body):
    answer = client.post("/v1/teams/keys", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_json")
    assert len(answer.text) < 400
