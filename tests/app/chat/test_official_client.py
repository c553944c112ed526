"""The official client in strict mode, a live API and the real serving engine with a tiny random base."""

import time

import httpx
import openai
import pytest

from app.db.tables import BaseModelRow
from tests.support.serving_engine import serving_engine
from tests.support.tiny_models import build_tiny_base

USER = {"role": "user", "content": "The machine is broken."}
pytestmark = pytest.mark.slow
CONTEXT_TOKENS = 8192
END_TOKEN = "2"


@pytest.fixture(scope="module")
def engine_url(tmp_path_factory):
    with serving_engine(tmp_path_factory.mktemp("engine")) as url:
        yield url


@pytest.fixture
def settings(settings, engine_url):
    return settings.model_copy(update={"server_url": engine_url})


@pytest.fixture
def tiny(context):
    """A base whose context is long enough to be still busy when a caller hangs up."""
    ref = build_tiny_base(context.settings.bases_dir / "tiny", context_length=CONTEXT_TOKENS)
    row = BaseModelRow(
        id="tiny",
        folder="tiny",
        kind="decoder",
        licence="test",
        source="test",
        context_length=ref.context_length,
        parameters=40_000,
        has_chat_template=True,
        files={},
        weights_sha256=ref.weights_sha256,
    )
    with context.database.unit_of_work() as work:
        work.session.add(row)
    return ref


def test_whole_and_streamed_answers_are_equal(openai_client, tiny):
    settings = {"model": "tiny", "messages": [USER], "temperature": 0, "max_completion_tokens": 12}
    whole = openai_client.chat.completions.create(**settings, logprobs=True, top_logprobs=2)
    stream = openai_client.chat.completions.create(**settings, stream=True, stream_options={"include_usage": True})
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content != ""
    assert chunks[-1].usage == whole.usage
    assert whole.choices[0].logprobs is not None
    assert len(whole.choices[0].logprobs.content or ()) >= 1
    assert whole.system_fingerprint == f"fp_{tiny.weights_sha256[:10]}_base"


def test_the_streaming_helper_of_the_client_works(openai_client, tiny):
    with openai_client.chat.completions.stream(model="tiny", messages=[USER], logit_bias={END_TOKEN: 100}) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion()
    assert "chunk" in kinds
    assert final.choices[0].finish_reason == "stop"


def test_the_same_seed_gives_the_same_text(openai_client, tiny):
    texts = {
        openai_client.completions.create(model="tiny", prompt="The", seed=7, max_tokens=12).choices[0].text
        for _ in range(2)
    }
    assert len(texts) == 1


def test_an_unknown_model_is_the_clients_not_found(openai_client, tiny):
    with pytest.raises(openai.NotFoundError) as caught:
        openai_client.chat.completions.create(model="nobody", messages=[USER])
    assert caught.value.code == "model_not_found"


def test_a_prompt_beyond_the_context_is_the_clients_bad_request(openai_client, tiny):
    with pytest.raises(openai.BadRequestError, match="context"):
        openai_client.completions.create(model="tiny", prompt=[5] * CONTEXT_TOKENS, max_tokens=4)


@pytest.mark.parametrize("is_stream", [True, False])
def test_hanging_up_stops_the_generation(live_server, api_key, engine_url, tiny, is_stream):
    body = {"model": "tiny", "messages": [USER], "logit_bias": {END_TOKEN: -100}, "stream": is_stream}
    with httpx.Client(headers={"Authorization": f"Bearer {api_key}"}, trust_env=False) as caller:
        if is_stream:
            with caller.stream("POST", url(live_server), json=body) as answer:
                lines = answer.iter_lines()
                assert "data" in next(lines)
                assert running(engine_url) == 1
        else:
            with pytest.raises(httpx.ReadTimeout):
                caller.post(url(live_server), json=body, timeout=1)
    deadline = time.monotonic() + 8
    while running(engine_url):
        assert time.monotonic() < deadline, "the engine still works for a caller who has gone"


def url(live_server):
    return f"{live_server}/v1/chat/completions"


def running(engine_url):
    state = httpx.get(f"{engine_url}/health", trust_env=False).json()
    return state["running"] + state["waiting"]
