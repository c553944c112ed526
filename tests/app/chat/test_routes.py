"""/v1/chat/completions and /v1/completions over HTTP, with a scripted serving engine."""

import json

import pytest
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from app.contracts.generation import TokenDelta
from app.errors import InvalidInput, Unavailable
from tests.app.chat.conftest import TUNED
from tests.support.scripted_generator import saying

USER = {"role": "user", "content": "My card was charged twice."}
CHAT = "/v1/chat/completions"


def ask(api, path=CHAT, **fields):
    body = {"model": "tiny", "messages": [USER]} if path == CHAT else {"model": "tiny", "prompt": "To be"}
    return api.post(path, json=body | fields)


def events(response):
    assert response.headers["content-type"].startswith("text/event-stream")
    data = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    return [entry if entry == "[DONE]" else json.loads(entry) for entry in data]


def test_a_base_answers_with_its_fingerprint(api, generator):
    response = ask(api)
    assert response.status_code == 200
    answer = ChatCompletion.model_validate(response.json(), strict=True)
    assert answer.choices[0].message.content == "billing"
    assert answer.system_fingerprint == "fp_ababababab_base"
    assert generator.specs[0].base.path.endswith("/bases/tiny")
    assert generator.specs[0].adapter is None


def test_a_tuned_model_answers_with_its_own_adapter(api, generator, tuned):
    answer = ask(api, model=TUNED).json()
    assert answer["model"] == TUNED
    assert answer["system_fingerprint"] == f"fp_ababababab_{tuned.adapter_sha256[:10]}"
    adapter = generator.specs[0].adapter
    assert adapter.sha256 == tuned.adapter_sha256
    assert adapter.path.endswith(f"serving/{tuned.archive_sha256}")


def test_a_damaged_adapter_is_an_error_and_never_the_plain_base(api, context, generator, tuned):
    context.artifacts.delete(tuned.archive_key)
    response = ask(api, model=TUNED)
    assert response.status_code == 500
    assert response.json()["error"]["code"] == "adapter_damaged"
    assert generator.specs == []


def test_a_model_of_another_team_does_not_exist(api, tuned, other_team_key):
    headers = {"Authorization": f"Bearer {other_team_key}"}
    response = api.post(CHAT, json={"model": TUNED, "messages": [USER]}, headers=headers)
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "model_not_found"


def test_a_stream_has_chunks_and_done(api):
    *chunks, last = events(ask(api, stream=True, stream_options={"include_usage": True}))
    parsed = [ChatCompletionChunk.model_validate(chunk, strict=True) for chunk in chunks]
    assert last == "[DONE]"
    assert parsed[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in parsed[:-1]) == "billing"
    assert parsed[-2].choices[0].finish_reason == "stop"
    assert parsed[-1].usage is not None


def test_a_stream_that_breaks_ends_with_an_error_and_no_done(api, generator):
    generator.scripts = [[TokenDelta(index=0, text="bill"), Unavailable("The answer was cut.", code="answer_cut")]]
    *chunks, last = events(ask(api, stream=True))
    assert last == {
        "error": {"message": "The answer was cut.", "type": "server_error", "param": None, "code": "answer_cut"}
    }
    assert "[DONE]" not in chunks
    assert generator.open_answers == 0


@pytest.mark.parametrize("is_stream", [True, False])
def test_a_refusal_before_the_first_token_is_a_status(api, generator, is_stream):
    generator.scripts = [[InvalidInput("Too long.", code="context_length_exceeded", param="messages")]]
    response = ask(api, stream=is_stream)
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "context_length_exceeded"


def test_an_answer_that_breaks_is_no_half_answer(api, generator):
    generator.scripts = [[TokenDelta(index=0, text="bill"), Unavailable("The answer was cut.")]]
    response = ask(api)
    assert response.status_code == 503
    assert "billing" not in response.text


def test_every_parameter_of_the_official_client_at_once_is_accepted(api):
    response = ask(
        api,
        audio={"format": "wav", "voice": "alloy"},
        frequency_penalty=-2,
        function_call="none",
        functions=[{"name": "name", "parameters": {}}],
        logit_bias={"foo": 0},
        logprobs=True,
        max_completion_tokens=0,
        max_tokens=0,
        metadata={"foo": "string"},
        modalities=["text"],
        n=1,
        parallel_tool_calls=True,
        prediction={"content": "string", "type": "content"},
        reasoning_effort="none",
        response_format={"type": "text"},
        seed=-9007199254740991,
        service_tier="auto",
        stop="\n",
        tool_choice="none",
        tools=[{"type": "function", "function": {"name": "name", "strict": True}}],
        top_logprobs=0,
        user="user-1234",
        verbosity="low",
        web_search_options={},
    )
    assert response.status_code == 200, response.text


def test_an_image_is_refused_by_place(api, generator):
    part = {"type": "image_url", "image_url": {"url": "data:,"}}
    response = ask(api, messages=[{"role": "user", "content": [part]}])
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "messages[0].content[0]"
    assert generator.specs == []


def test_no_connection_is_held_while_an_answer_is_made(api, context, generator):
    held = []
    original = generator.generate

    async def watching(spec):
        held.append(context.database.engine.pool.checkedout())
        async for line in original(spec):
            yield line

    generator.generate = watching
    assert ask(api).status_code == 200
    assert ask(api, stream=True).status_code == 200
    assert ask(api, "/v1/completions").status_code == 200
    assert held == [0, 0, 0]


def test_texts_of_several_prompts_come_in_their_order(api, generator):
    generator.scripts = [saying("one"), saying("two")]
    answer = Completion.model_validate(ask(api, "/v1/completions", prompt=["a", "b"]).json(), strict=True)
    assert [(choice.index, choice.text) for choice in answer.choices] == [(0, "one"), (1, "two")]
    assert answer.usage is not None
    assert answer.usage.total_tokens == 8


def test_a_streamed_text_ends_with_done(api):
    *chunks, last = events(ask(api, "/v1/completions", stream=True, stream_options={"include_usage": True}))
    assert last == "[DONE]"
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks[:-1]) == "billing"
    assert chunks[-1]["usage"]["total_tokens"] == 5


@pytest.mark.parametrize("is_stream", [True, False])
def test_a_stored_answer_can_be_found_changed_and_deleted(api, is_stream):
    metadata = {"ticket": "7"}
    response = ask(api, store=True, metadata=metadata, stream=is_stream)
    completion_id = events(response)[0]["id"] if is_stream else response.json()["id"]
    stored = ChatCompletion.model_validate(api.get(f"{CHAT}/{completion_id}").json(), strict=True)
    assert stored.choices[0].message.content == "billing"
    assert stored.metadata == metadata
    messages = api.get(f"{CHAT}/{completion_id}/messages").json()["data"]
    assert messages[0]["content"] == USER["content"]
    assert messages[0]["id"] == f"{completion_id}-0"
    changed = api.post(f"{CHAT}/{completion_id}", json={"metadata": {"ticket": "8"}}).json()
    assert changed["metadata"] == {"ticket": "8"}
    assert [row["id"] for row in api.get(CHAT, params={"metadata[ticket]": "8"}).json()["data"]] == [completion_id]
    assert api.get(CHAT, params={"metadata[ticket]": "7"}).json()["data"] == []
    assert api.get(CHAT, params={"model": "other"}).json()["data"] == []
    assert api.delete(f"{CHAT}/{completion_id}").json()["deleted"] is True
    assert api.get(f"{CHAT}/{completion_id}").status_code == 404


def test_what_was_not_asked_to_be_kept_is_not_kept(api):
    ask(api)
    assert api.get(CHAT).json()["data"] == []


def test_stored_answers_page_in_both_directions(api):
    ids = [ask(api, store=True).json()["id"] for _ in range(3)]
    first = api.get(CHAT, params={"limit": 2}).json()
    assert ([row["id"] for row in first["data"]], first["has_more"]) == (ids[:2], True)
    rest = api.get(CHAT, params={"limit": 2, "after": ids[1]}).json()
    assert ([row["id"] for row in rest["data"]], rest["has_more"]) == (ids[2:], False)
    newest = api.get(CHAT, params={"order": "desc"}).json()
    assert [row["id"] for row in newest["data"]] == ids[::-1]


def test_a_stored_answer_is_seen_by_its_own_team_only(api, other_team_key):
    completion_id = ask(api, store=True).json()["id"]
    headers = {"Authorization": f"Bearer {other_team_key}"}
    assert api.get(f"{CHAT}/{completion_id}", headers=headers).status_code == 404
    assert api.delete(f"{CHAT}/{completion_id}", headers=headers).status_code == 404
    assert api.get(CHAT, headers=headers).json()["data"] == []
    assert api.get(f"{CHAT}/{completion_id}").status_code == 200
