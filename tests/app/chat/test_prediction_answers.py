"""Chat completions of models that say something of a text, with a scripted serving engine."""

import json

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from tests.app.chat.conftest import TUNED
from tests.app.chat.test_routes import CHAT, events
from tests.support.predictions import entities, entity, labels, predicted, written

TEXT = "My card was charged twice in Zürich."
TWO = labels(("billing", 0.75), ("delivery", 0.25))
PLACE = entities(entity(TEXT, "Zürich", "PLACE", 0.5))


def ask(api, *messages, **fields):
    said = messages or ({"role": "user", "content": TEXT},)
    return api.post(CHAT, json={"model": TUNED, "messages": list(said), **fields})


def answer(response):
    """The body, which the official client accepts; its only choice's content."""
    assert response.status_code == 200, response.text
    completion = ChatCompletion.model_validate(response.json(), strict=True)
    return response.json(), completion.choices[0].message.content


def test_a_classifier_answers_with_its_label_and_all_scores(api, generator, tune):
    tune("text_classification")
    generator.predictions = [predicted(TWO)]
    body, content = answer(ask(api))
    assert content == "billing"
    assert body["prediction"] == {
        "kind": "labels",
        "scores": [{"label": "billing", "score": 0.75}, {"label": "delivery", "score": 0.25}],
        "chosen": ["billing"],
        "abstained": False,
        "conformal_set": None,
    }
    assert (body["usage"]["prompt_tokens"], body["usage"]["completion_tokens"]) == (7, 0)
    assert body["choices"][0]["finish_reason"] == "stop"
    assert "warnings" not in body
    assert generator.asked[0].inputs == (TEXT,)
    assert generator.specs == []


@pytest.mark.parametrize("chosen", [(), ("billing",), ("billing", "Rückgabe")])
def test_several_labels_come_as_a_json_list(api, generator, tune, chosen):
    tune("text_classification", is_multi_label=True)
    generator.predictions = [predicted(labels(("billing", 0.75), ("Rückgabe", 0.6), chosen=chosen))]
    _, content = answer(ask(api))
    assert json.loads(content) == list(chosen)
    assert "\\u" not in content


def test_a_tagger_answers_with_json_spans(api, generator, tune):
    tune("token_classification")
    generator.predictions = [predicted(PLACE)]
    body, content = answer(ask(api))
    assert json.loads(content) == [{"start": 29, "end": 35, "label": "PLACE", "text": "Zürich"}]
    assert body["prediction"]["spans"][0]["score"] == 0.5


def test_a_summariser_answers_with_its_text(api, generator, tune):
    tune("summarization", kind="encoder_decoder")
    generator.predictions = [predicted(written("Charged", is_cut=True), output_tokens=3)]
    body, content = answer(ask(api, max_completion_tokens=3))
    assert content == "Charged"
    assert body["choices"][0]["finish_reason"] == "length"
    assert body["usage"]["total_tokens"] == 10
    answer(ask(api, max_tokens=5))
    answer(ask(api))
    assert [spec.max_new_tokens for spec in generator.asked] == [3, 5, 256]


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_a_text_of_no_token_is_refused(api, tune, name):
    tune("summarization", kind="encoder_decoder")
    response = ask(api, **{name: 0})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == name


def test_the_last_user_message_is_the_text_and_the_rest_is_warned_of(api, generator, tune):
    tune("text_classification")
    generator.predictions = [predicted(TWO)]
    body, _ = answer(
        ask(
            api,
            {"role": "system", "content": "You label tickets."},
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "content": "other"},
            {"role": "user", "content": [{"type": "text", "text": "My card "}, {"type": "text", "text": "broke"}]},
        )
    )
    assert generator.asked[0].inputs == ("My card broke",)
    assert body["warnings"] == [
        "Only the last user message was read: this model was tuned for text-classification, not for conversations."
    ]


def test_settings_without_effect_and_cut_texts_are_warned_of(api, generator, tune):
    tune("text_classification")
    generator.predictions = [predicted(TWO, truncated=(0,))]
    tool = {"type": "function", "function": {"name": "look"}}
    body, _ = answer(ask(api, tools=[tool], logprobs=True, stop="x", response_format={"type": "json_object"}, n=2))
    assert [choice["message"]["content"] for choice in body["choices"]] == ["billing", "billing"]
    assert body["warnings"] == [
        "The text is longer than the 128 tokens this model reads: its end was cut off.",
        "Without effect on text-classification: tools, logprobs, stop, response_format.",
        "All choices are the same: this model does not draw its answers.",
    ]


def test_without_a_user_message_there_is_no_text(api, tune):
    tune("text_classification")
    response = ask(api, {"role": "system", "content": "You label tickets."})
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["param"] == "messages"
    assert "role 'user'" in error["message"]


def test_a_stream_has_the_answer_in_one_piece(api, generator, tune):
    tune("text_classification")
    generator.predictions = [predicted(TWO)]
    *chunks, done = events(ask(api, stream=True, stream_options={"include_usage": True}))
    assert done == "[DONE]"
    parsed = [ChatCompletionChunk.model_validate(chunk, strict=True) for chunk in chunks]
    assert [chunk.choices[0].delta.content for chunk in parsed[:-1]] == ["", "billing", None]
    assert parsed[-2].choices[0].finish_reason == "stop"
    assert chunks[-2]["prediction"]["chosen"] == ["billing"]
    assert parsed[-1].usage is not None
    assert parsed[-1].usage.prompt_tokens == 7


@pytest.mark.parametrize("is_stream", [True, False])
def test_an_answer_can_be_kept(api, generator, tune, is_stream):
    tune("text_classification")
    generator.predictions = [predicted(TWO)]
    response = ask(api, store=True, stream=is_stream, metadata={"ticket": "7"})
    completion_id = events(response)[0]["id"] if is_stream else response.json()["id"]
    kept = api.get(f"{CHAT}/{completion_id}").json()
    assert kept["choices"][0]["message"]["content"] == "billing"
    assert kept["metadata"] == {"ticket": "7"}


@pytest.mark.parametrize(
    ("recipe", "kind"),
    [
        ("text_classification", "encoder"),
        ("text_classification", "decoder"),
        ("token_classification", "encoder"),
        ("summarization", "encoder_decoder"),
    ],
)
def test_text_completions_name_the_right_place_to_ask(*, api, generator, tune, recipe, kind):
    tune(recipe, kind=kind)
    response = api.post("/v1/completions", json={"model": TUNED, "prompt": "To be"})
    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["code"], error["param"]) == ("unsupported_endpoint", "model")
    assert "/v1/models/{model}/predict" in error["message"]
    assert generator.specs == []


def test_a_decoder_that_learned_to_summarise_is_asked_as_it_was_trained(api, generator, tune):
    tune("summarization")
    body, content = answer(ask(api))
    assert content == "billing"
    assert "prediction" not in body
    assert generator.specs[0].messages == ({"role": "user", "content": TEXT},)
    assert generator.asked == []
    assert api.post("/v1/completions", json={"model": TUNED, "prompt": "To be"}).status_code == 200


def test_without_a_chat_template_a_decoder_that_summarises_predicts(api, generator, tune):
    tune("summarization", has_chat_template=False)
    generator.predictions = [predicted(written("Charged."), output_tokens=3)]
    assert answer(ask(api))[1] == "Charged."
    assert generator.specs == []


@pytest.mark.parametrize("path", [CHAT, "/v1/completions"])
def test_an_untuned_encoder_is_not_asked(*, api, generator, tune, path):
    tune("text_classification", kind="encoder")
    body = {"messages": [{"role": "user", "content": TEXT}]} if path == CHAT else {"prompt": TEXT}
    response = api.post(path, json={"model": "tiny"} | body)
    assert response.status_code == 400
    assert "neither holds conversations" in response.json()["error"]["message"]
    assert generator.specs == []
