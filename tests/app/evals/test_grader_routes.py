"""/v1/fine_tuning/alpha/graders: validate and run."""

import pytest
from openai.types.fine_tuning.alpha import GraderRunResponse, GraderValidateResponse

from app.errors import Unavailable
from tests.support.scripted_generator import saying

PATH = "/v1/fine_tuning/alpha/graders"
CHECK = {
    "type": "string_check",
    "name": "check",
    "input": "{{sample.output_json.label}}",
    "reference": "{{item.label}}",
    "operation": "ilike",
}
SCORE = {"type": "score_model", "name": "judge", "model": "tiny", "input": [{"role": "user", "content": "Rate it."}]}


def run(api, grader, sample='{"label": "Billing"}', **item):
    answer = api.post(f"{PATH}/run", json={"grader": grader, "model_sample": sample, "item": item})
    assert answer.status_code == 200, answer.text
    return GraderRunResponse.model_validate(answer.json())


def multi(formula, **graders):
    return {"type": "multi", "name": "both", "graders": graders, "calculate_output": formula}


def test_a_grader_that_can_be_run_comes_back_as_it_was_sent(api):
    single = {"type": "multi", "name": "one", "graders": CHECK, "calculate_output": "check ^ 2"}
    for grader in (CHECK, SCORE, single):
        answer = api.post(f"{PATH}/validate", json={"grader": grader})
        assert answer.json() == {"grader": grader}
        GraderValidateResponse.model_validate(answer.json())
    named = multi("check * 2", check=CHECK)  # as the guide has it; the client's types know one grader only
    assert api.post(f"{PATH}/validate", json={"grader": named}).json() == {"grader": named}


@pytest.mark.parametrize(
    ("grader", "status", "word"),
    [
        ({**SCORE, "model": "nobody"}, 404, "nobody"),
        ({**CHECK, "input": "{{x}}"}, 400, "'item' or 'sample'"),
        (multi("check + other", check=CHECK), 400, "'other'"),
        (multi("__import__('os').system('id')", check=CHECK), 400, "not allowed"),
        (multi("p", p={"type": "python", "name": "p", "source": "x"}), 400, "sandbox"),
    ],
)
def test_a_grader_that_cannot_is_refused_with_its_reason(api, grader, status, word):
    for verb, extra in (("validate", {}), ("run", {"model_sample": "x"})):
        answer = api.post(f"{PATH}/{verb}", json={"grader": grader, **extra})
        assert answer.status_code == status
        assert word in answer.json()["error"]["message"]


def test_a_sample_is_scored(api):
    found = run(api, CHECK, label="bill")
    assert (found.reward, found.metadata.name, found.metadata.type) == (1.0, "check", "string_check")
    assert found.metadata.scores == {"check": 1.0}
    assert not found.metadata.errors.other_error


@pytest.mark.parametrize(
    ("grader", "sample", "flag"),
    [
        (CHECK, "no json", "sample_parse_error"),
        ({**CHECK, "input": "{{item.nothing}}"}, "x", "invalid_variable_error"),
        (multi("1 / check", check={**CHECK, "input": "never"}), "x", "formula_parse_error"),
    ],
)
def test_what_goes_wrong_is_told_by_a_flag_and_the_reward_is_0(api, grader, sample, flag):
    found = run(api, grader, sample, label="bill")
    assert found.reward == 0.0
    raised = {name for name, value in found.metadata.errors.model_dump().items() if value is True}
    assert raised == {flag}


def test_several_graders_are_combined_by_their_formula(api):
    length = {**CHECK, "input": "abc", "reference": "{{item.other}}", "operation": "eq"}
    found = run(api, multi("0.75 * check + 0.25 * length", check=CHECK, length=length), label="bill", other="x")
    assert found.reward == 0.75
    assert found.sub_rewards == {"check": 1.0, "length": 0.0}


def test_a_model_scores_a_sample(api, world):
    world.generator.scripts = [saying('I think {"result": 0.25}')]
    found = run(api, SCORE)
    assert (found.reward, found.metadata.sampled_model_name, found.metadata.token_usage) == (0.25, "tiny", 4)
    assert found.api_model_grader_token_usage_per_model == {"tiny": 4}


def test_an_engine_that_is_away_is_an_error_of_the_service_not_a_score(api, world):
    world.generator.scripts = [[Unavailable("away")]]
    answer = api.post(f"{PATH}/run", json={"grader": SCORE, "model_sample": "x"})
    assert answer.status_code == 503


def test_an_item_is_an_object(api):
    answer = api.post(f"{PATH}/run", json={"grader": CHECK, "model_sample": "x", "item": 3})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "item")
