"""/v1/models/{model}/predict over HTTP, with a scripted serving engine."""

import pytest

from app.contracts.predictions import MAX_INPUTS
from app.errors import InvalidInput, Unavailable
from tests.app.chat.conftest import TUNED
from tests.support.predictions import entities, entity, labels, predicted, written

TEXT = "My card was charged twice in Zürich."
TWO = labels(("billing", 0.75), ("delivery", 0.25))
PLACE = entities(entity(TEXT, "Zürich", "PLACE", 0.5))


def predict(api, inputs=TEXT, model=TUNED, **fields):
    return api.post(f"/v1/models/{model}/predict", json={"inputs": inputs, **fields})


def error_of(response, status=400):
    assert response.status_code == status, response.text
    return response.json()["error"]


def test_a_classifier_answers_with_one_list_a_text(api, generator, tune):
    tune("text_classification", labels=["billing", "delivery"])
    generator.predictions = [predicted(TWO)]
    expected = [{"label": "billing", "score": 0.75}, {"label": "delivery", "score": 0.25}]
    assert predict(api).json() == [expected]
    generator.predictions.append(predicted(TWO, TWO))
    assert predict(api, [TEXT, "Hello"]).json() == [expected, expected]
    assert [spec.inputs for spec in generator.asked] == [(TEXT,), (TEXT, "Hello")]
    assert generator.asked[0].adapter.path.endswith("serving/" + tune.row.archive_sha256)


def test_a_tagger_answers_with_the_entities_of_a_text_or_a_list_of_those(api, generator, tune):
    tune("token_classification", labels=["PLACE"])
    generator.predictions = [predicted(PLACE), predicted(PLACE, entities())]
    place = {"entity_group": "PLACE", "score": 0.5, "word": "Zürich", "start": 29, "end": 35}
    assert predict(api, parameters={"aggregation_strategy": "simple"}).json() == [place]
    assert predict(api, [TEXT, "Hello"]).json() == [[place], []]


def test_a_summariser_answers_with_an_object_a_text(api, generator, tune):
    tune("summarization")
    generator.predictions = [predicted(written("Charged twice."), output_tokens=4), predicted(*[written("x")] * 2)]
    response = predict(api, parameters={"max_new_tokens": 9})
    assert response.json() == [{"summary_text": "Charged twice."}]
    assert (response.headers["x-prompt-tokens"], response.headers["x-generated-tokens"]) == ("7", "4")
    nested = predict(api, [TEXT, TEXT], parameters={"generate_parameters": {"max_new_tokens": 8}})
    assert nested.json() == [{"summary_text": "x"}] * 2
    predict(api)
    assert [spec.max_new_tokens for spec in generator.asked] == [9, 8, 256]


def test_top_k_keeps_the_likeliest_labels(api, generator, tune):
    tune("text_classification")
    generator.predictions = [predicted(TWO)]
    assert predict(api, parameters={"top_k": 1}).json() == [[{"label": "billing", "score": 0.75}]]
    assert len(predict(api, parameters={"top_k": 9}).json()[0]) == 2


def test_the_function_of_the_scores_is_the_engines_to_apply(api, generator, tune):
    tune("text_classification")
    generator.predictions = [predicted(TWO)]
    predict(api, parameters={"function_to_apply": "none"}, options={"wait_for_model": True})
    predict(api)
    assert [spec.function for spec in generator.asked] == ["none", None]


def test_a_classifier_that_may_abstain_or_gives_a_set_answers_with_an_object_a_text(api, generator, tune):
    tune("text_classification")
    unsure = labels(("billing", 0.75), ("delivery", 0.25), chosen=(), abstained=True, conformal_set=("billing",))
    generator.predictions = [predicted(unsure, temperature=0.5, min_confidence=0.8), predicted(TWO, min_confidence=0.3)]
    response = predict(api, parameters={"min_confidence": 0.8, "return_set": True, "top_k": 1})
    assert response.json() == [
        {
            "scores": [{"label": "billing", "score": 0.75}],
            "chosen": [],
            "abstained": True,
            "min_confidence": 0.8,
            "set": ["billing"],
        }
    ]
    assert response.headers["x-temperature"] == "0.5"
    (other,) = predict(api, parameters={"max_risk": 0.1}).json()
    assert (other["chosen"], other["abstained"], other["min_confidence"], other["set"]) == (
        ["billing"],
        False,
        0.3,
        None,
    )
    asked = [(spec.min_confidence, spec.max_risk, spec.returns_set) for spec in generator.asked]
    assert asked == [(0.8, None, True), (None, 0.1, False)]


def test_texts_that_were_cut_are_named(api, generator, tune):
    tune("text_classification")
    generator.predictions = [predicted(TWO, TWO, TWO, truncated=(0, 2)), predicted(TWO)]
    assert predict(api, ["a", "b", "c"]).headers["x-truncated-inputs"] == "0,2"
    assert "x-truncated-inputs" not in predict(api).headers


@pytest.mark.parametrize(
    ("recipe", "parameters", "param"),
    [
        ("text_classification", {"aggregation_strategy": "simple"}, "parameters.aggregation_strategy"),
        ("text_classification", {"top_k": 0}, "parameters.top_k"),
        ("text_classification", {"function_to_apply": "tanh"}, "parameters.function_to_apply"),
        ("text_classification", {"min_confidence": 1.5}, "parameters.min_confidence"),
        ("text_classification", {"max_risk": 0}, "parameters.max_risk"),
        ("token_classification", {"min_confidence": 0.5}, "parameters.min_confidence"),
        ("summarization", {"return_set": True}, "parameters.return_set"),
        ("token_classification", {"aggregation_strategy": "none"}, "parameters.aggregation_strategy"),
        ("token_classification", {"stride": 2}, "parameters.stride"),
        ("token_classification", {"top_k": 2}, "parameters.top_k"),
        ("summarization", {"function_to_apply": "none"}, "parameters.function_to_apply"),
        ("summarization", {"max_new_tokens": 0}, "parameters.max_new_tokens"),
        ("summarization", {"generate_parameters": {"num_beams": 4}}, "parameters.generate_parameters.num_beams"),
    ],
)
def test_a_parameter_that_cannot_be_followed_is_refused_by_name(*, api, generator, tune, recipe, parameters, param):
    tune(recipe)
    assert error_of(predict(api, parameters=parameters))["param"] == param
    assert generator.asked == []


@pytest.mark.parametrize("inputs", [[], ["x"] * (MAX_INPUTS + 1), 7, [None], {"text": "x"}])
def test_only_texts_are_inputs(api, tune, inputs):
    tune("text_classification")
    assert error_of(predict(api, inputs))["param"].startswith("inputs")


@pytest.mark.parametrize("recipe", ["chat", "preference", None])
def test_a_model_that_holds_conversations_says_where_to_ask_it(api, generator, tune, recipe):
    if recipe is not None:
        tune(recipe)
    error = error_of(predict(api, model=TUNED if recipe else "tiny"))
    assert (error["code"], error["param"]) == ("unsupported_endpoint", "model")
    assert "/v1/chat/completions" in error["message"]
    assert generator.asked == []


def test_an_untuned_encoder_says_that_it_must_be_tuned(api, generator, tune):
    tune("text_classification", kind="encoder")
    error = error_of(predict(api, model="tiny"))
    assert (error["code"], error["param"]) == ("unsupported_endpoint", "model")
    assert "Tune it for a task" in error["message"]
    assert generator.asked == []


@pytest.mark.parametrize("model", ["ft:none:a:b:c", "a/b", "a%2Fb"])
def test_an_absent_model_does_not_exist(api, model):
    assert error_of(predict(api, model=model), 404)["code"] == "model_not_found"


def test_a_model_of_another_team_does_not_exist(api, tune, other_team_key):
    tune("text_classification")
    headers = {"Authorization": f"Bearer {other_team_key}"}
    response = api.post(f"/v1/models/{TUNED}/predict", json={"inputs": TEXT}, headers=headers)
    assert error_of(response, 404)["code"] == "model_not_found"


@pytest.mark.parametrize("path", [TUNED, TUNED.replace(":", "%3A")])
def test_a_name_may_come_escaped(api, generator, tune, path):
    tune("text_classification")
    generator.predictions = [predicted(TWO)]
    assert predict(api, model=path).status_code == 200


@pytest.mark.parametrize(
    ("fault", "status"),
    [(InvalidInput("Nothing to read.", code="empty_input", param="inputs"), 400), (Unavailable("Busy."), 503)],
)
def test_what_the_engine_refuses_is_told_in_openais_shape(api, generator, tune, fault, status):
    tune("text_classification")
    generator.predictions = [fault]
    assert error_of(predict(api), status)["message"] == fault.message


def test_no_connection_is_held_while_the_engine_works(api, context, generator, tune):
    tune("text_classification")
    held = []

    async def watching(_):
        held.append(context.database.engine.pool.checkedout())
        return predicted(TWO)

    generator.predict = watching
    assert predict(api).status_code == 200
    assert held == [0]
