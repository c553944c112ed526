"""The command line's client finds the service, and says in the user's words what went wrong."""

import json

import httpx
import pytest

from app.cli.client import Client, Connection, ServiceError, Unreachable, find_connection
from app.cli.errors import CommandError


@pytest.fixture(autouse=True)
def _no_log_ins(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def _client(handler):
    return Client(Connection("http://127.0.0.1:1", "key"), transport=httpx.MockTransport(handler))


def test_the_service_of_the_data_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.delenv("TUNESMITH_BASE_URL", raising=False)
    monkeypatch.delenv("TUNESMITH_API_KEY", raising=False)
    (tmp_path / "ready.json").write_text('{"base_url": "http://127.0.0.1:9", "api_key": "local"}')
    assert find_connection(None, None, tmp_path) == Connection("http://127.0.0.1:9", "local")
    assert find_connection("http://127.0.0.1:9/v1/", None, tmp_path) == Connection("http://127.0.0.1:9", "local")


def test_the_local_key_is_never_sent_to_another_service(tmp_path, monkeypatch):
    monkeypatch.delenv("TUNESMITH_API_KEY", raising=False)
    (tmp_path / "ready.json").write_text('{"base_url": "http://127.0.0.1:9", "api_key": "local"}')
    with pytest.raises(CommandError, match="No API key for https://elsewhere"):
        find_connection("https://elsewhere.example/v1", None, tmp_path)


def test_without_a_running_service_the_user_learns_how_to_start_one(tmp_path, monkeypatch):
    monkeypatch.delenv("TUNESMITH_BASE_URL", raising=False)
    with pytest.raises(CommandError, match="tunesmith up"):
        find_connection(None, None, tmp_path)


def test_a_message_of_the_service_is_shown_verbatim():
    def answer(request):
        return httpx.Response(400, json={"error": {"message": "Line 3 is not a dictionary.", "code": "bad"}})

    with _client(answer) as client, pytest.raises(ServiceError, match=r"^Line 3 is not a dictionary\.$") as caught:
        client.get("/v1/files")
    assert (caught.value.status, caught.value.code) == (400, "bad")


def test_an_error_page_of_a_proxy_is_named_with_its_status():
    with (
        _client(lambda _: httpx.Response(502, text="<h1>Bad Gateway</h1>")) as client,
        pytest.raises(ServiceError, match="answered 502: <h1>Bad"),
    ):
        client.get("/v1/files")


def test_a_service_that_is_not_there_is_said_to_be_so():
    def refuse(request):
        raise httpx.ConnectError("refused", request=request)

    with _client(refuse) as client, pytest.raises(Unreachable, match=r"No service answers at http://127\.0\.0\.1:1"):
        client.get("/v1/files")


def test_each_post_has_its_own_idempotency_key():
    keys = []

    def note(request):
        keys.append(request.headers["Idempotency-Key"])
        return httpx.Response(200, json={})

    with _client(note) as client:
        client.post("/v1/a", {})
        client.post("/v1/a", {})
    assert len(set(keys)) == 2


def test_pages_are_read_to_the_end_and_no_further_than_asked():
    def page(request):
        after = int(request.url.params.get("after", "0"))
        data = [{"id": str(number)} for number in range(after + 1, after + 4)]
        return httpx.Response(200, json={"data": data, "has_more": after < 6})

    with _client(page) as client:
        assert [item["id"] for item in client.pages("/v1/x")] == [str(n) for n in range(1, 10)]
        assert [item["id"] for item in client.pages("/v1/x", most=4)] == ["1", "2", "3", "4"]


def test_an_error_answer_to_a_stream_is_raised_before_its_first_byte():
    body = json.dumps({"error": {"message": "gone"}})
    with (
        _client(lambda _: httpx.Response(404, text=body)) as client,
        pytest.raises(ServiceError, match="gone"),
        client.stream("GET", "/v1/x"),
    ):
        pytest.fail("the block must not run")
