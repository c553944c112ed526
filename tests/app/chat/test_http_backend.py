"""The serving engine over HTTP: every way in which it can fail is an error with an addressee."""

import asyncio
from pathlib import Path

import httpx
import pytest

from app.chat.http_backend import HttpGenerator
from app.contracts.errors import WorkerError
from app.contracts.generation import ErrorLine, TokenDelta
from app.contracts.predictions import PredictSpec
from app.contracts.previews import PreviewSpec
from app.contracts.rows import ChatMessage, ChatRow
from app.contracts.specs import AdapterRef, BaseRef, GenerateSpec, SamplingSpec
from app.errors import AppError, InvalidInput, Unavailable
from app.settings import Settings
from tests.support.predictions import labels, predicted
from tests.support.scripted_generator import done, learned

SPEC = GenerateSpec(
    base=BaseRef(id="tiny", path="/bases/tiny", weights_sha256="a" * 64, context_length=128),
    prompt="Hello",
    sampling=SamplingSpec(max_new_tokens=4),
)
PREDICT = PredictSpec(
    base=SPEC.base, adapter=AdapterRef(id="ft:one", path="/adapters/one", sha256="b" * 64), inputs=("Hello", "you")
)
FOUND = predicted(labels(("billing", 0.75), ("delivery", 0.25)), labels(("delivery", 1.0)))
DELTA = TokenDelta(index=0, text="hi")


def settings(**fields):
    return Settings.model_validate(
        {
            "database_url": "postgresql://",
            "redis_url": "redis://",
            "artifacts_url": "file:///tmp",
            "bases_dir": Path("/tmp"),
            "scratch_dir": Path("/tmp"),
            "server_url": "http://engine",
            "server_token": "secret",
            **fields,
        }
    )


def body(*lines):
    return "".join(f"{line.model_dump_json()}\n" for line in lines)


def failing(kind):
    return ErrorLine(error=WorkerError(kind=kind, code="some_code", message="Some reason.", param="stop"))


def read(handler, **fields):
    async def all_lines():
        generator = HttpGenerator(settings(**fields), transport=httpx.MockTransport(handler))
        lines = []
        try:
            async for line in generator.generate(SPEC):
                lines.append(line)  # noqa: PERF401 - the lines before an error count as well
        except AppError as error:
            return lines, error
        finally:
            await generator.aclose()
        return lines, None

    return asyncio.run(all_lines())


def test_lines_come_as_they_were_sent_and_the_token_goes_along():
    seen = []

    def handler(request):
        seen.append(request)
        return httpx.Response(200, text=body(DELTA, done()))

    assert read(handler) == ([DELTA, done()], None)
    assert seen[0].headers["authorization"] == "Bearer secret"
    assert GenerateSpec.model_validate_json(seen[0].content) == SPEC


@pytest.mark.parametrize(
    ("kind", "status", "expected"),
    [("usage", 400, InvalidInput), ("transient", 503, Unavailable), ("fatal", 500, AppError)],
)
def test_a_refusal_keeps_its_reason_and_finds_its_addressee(kind, status, expected):
    lines, error = read(lambda _: httpx.Response(status, text=failing(kind).model_dump_json()))
    assert lines == []
    assert type(error) is expected
    assert (error.message, error.code) == ("Some reason.", "some_code")


def test_an_error_line_in_the_middle_ends_the_answer_with_its_reason():
    lines, error = read(lambda _: httpx.Response(200, text=body(DELTA, failing("transient"))))
    assert lines == [DELTA]
    assert isinstance(error, Unavailable)


def test_an_answer_without_an_end_is_an_error():
    lines, error = read(lambda _: httpx.Response(200, text=body(DELTA)))
    assert lines == [DELTA]
    assert isinstance(error, Unavailable)
    assert error.code == "answer_cut"


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (httpx.ConnectError("refused"), "serving_engine_unreachable"),
        (httpx.ReadTimeout("slow"), "serving_engine_timeout"),
        (httpx.RemoteProtocolError("cut"), "answer_cut"),
    ],
)
def test_an_engine_that_is_away_is_unavailable_not_our_fault(fault, code):
    def handler(_):
        raise fault

    lines, error = read(handler)
    assert lines == []
    assert isinstance(error, Unavailable)
    assert error.code == code


def test_a_refused_token_is_told_to_the_operator():
    _, error = read(lambda _: httpx.Response(401, text="no"))
    assert isinstance(error, Unavailable)
    assert "TUNESMITH_SERVER_TOKEN" in error.message


def test_without_an_address_the_reason_is_said():
    _, error = read(lambda _: httpx.Response(200), server_url=None)
    assert isinstance(error, Unavailable)
    assert "TUNESMITH_SERVER_URL" in error.message


def predict(handler, **fields):
    async def ask():
        generator = HttpGenerator(settings(**fields), transport=httpx.MockTransport(handler))
        try:
            return await generator.predict(PREDICT)
        except AppError as error:
            return error
        finally:
            await generator.aclose()

    return asyncio.run(ask())


def test_predictions_come_as_they_were_sent_and_the_token_goes_along():
    seen = []

    def handler(request):
        seen.append(request)
        return httpx.Response(200, text=FOUND.model_dump_json())

    assert predict(handler) == FOUND
    assert (seen[0].url.path, seen[0].headers["authorization"]) == ("/predict", "Bearer secret")
    assert PredictSpec.model_validate_json(seen[0].content) == PREDICT


@pytest.mark.parametrize(
    ("answer", "expected", "code"),
    [
        (httpx.Response(400, text=failing("usage").model_dump_json()), InvalidInput, "some_code"),
        (httpx.Response(503, text=failing("transient").model_dump_json()), Unavailable, "some_code"),
        (httpx.Response(401, text="no"), Unavailable, "serving_engine_token"),
        (httpx.Response(200, text='{"predictions": "many"}'), AppError, "serving_engine_protocol"),
        (httpx.Response(404, text="Not Found"), AppError, "serving_engine_protocol"),
    ],
)
def test_predictions_that_fail_have_a_reason_and_an_addressee(answer, expected, code):
    error = predict(lambda _: answer)
    assert type(error) is expected
    assert error.code == code


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (httpx.ConnectError("refused"), "serving_engine_unreachable"),
        (httpx.ReadTimeout("slow"), "serving_engine_timeout"),
        (httpx.RemoteProtocolError("cut"), "answer_cut"),
    ],
)
def test_predictions_of_an_engine_that_is_away_are_unavailable(fault, code):
    def handler(_):
        raise fault

    assert predict(handler).code == code
    assert predict(handler, server_url=None).code == "no_serving_engine"


def test_a_line_outside_the_contract_is_our_fault():
    _, error = read(lambda _: httpx.Response(200, text='{"kind": "song"}\n'))
    assert error is not None
    assert error.status == 500


PREVIEW = PreviewSpec(
    base=SPEC.base,
    rows=(
        ChatRow(
            line=1,
            messages=(ChatMessage(role="user", content="hi"), ChatMessage(role="assistant", content="yes")),
        ),
    ),
    max_length=64,
)


def preview(handler, **fields):
    async def ask():
        generator = HttpGenerator(settings(**fields), transport=httpx.MockTransport(handler))
        try:
            return await generator.preview(PREVIEW)
        finally:
            await generator.aclose()

    return asyncio.run(ask())


def test_a_preview_is_asked_for_with_the_token_and_comes_back_whole():
    answer = learned(1, max_length=64)

    def handler(request):
        assert request.headers["authorization"] == "Bearer secret"
        assert (request.url.path, PreviewSpec.model_validate_json(request.content)) == ("/preview", PREVIEW)
        return httpx.Response(200, content=answer.model_dump_json())

    assert preview(handler) == answer


@pytest.mark.parametrize(
    ("response", "expected", "code"),
    [
        (httpx.Response(400, content=failing("usage").model_dump_json()), InvalidInput, "some_code"),
        (httpx.Response(503, content=failing("transient").model_dump_json()), Unavailable, "some_code"),
        (httpx.Response(401, content=b"{}"), Unavailable, "serving_engine_token"),
        (httpx.Response(404, content=b"Not Found"), AppError, "serving_engine_protocol"),
        (httpx.Response(200, content=b"{}"), AppError, "serving_engine_protocol"),
        (httpx.ConnectError("refused"), Unavailable, "serving_engine_unreachable"),
        (httpx.ReadError("gone"), Unavailable, "answer_cut"),
    ],
)
def test_a_preview_that_does_not_come_is_an_error_with_an_addressee(response, expected, code):
    def handler(_request):
        if isinstance(response, Exception):
            raise response
        return response

    with pytest.raises(expected) as failure:
        preview(handler)
    assert failure.value.code == code


def test_without_a_serving_engine_there_is_no_preview():
    with pytest.raises(Unavailable, match="TUNESMITH_SERVER_URL"):
        preview(lambda _request: httpx.Response(200), server_url=None)
