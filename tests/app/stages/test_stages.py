"""A tuned model becomes approved, and serving, only by what its evaluation has shown."""

import pytest

from app.contracts.reports import Encoded
from tests.support.evaluations import comparison, evaluation, figure, outcome, scores
from tests.support.job_world import adapter, chat_rows, clients_world, metric

FEW_ROWS = "It was trained on 12 rows: a few hundred are usual."
WRONG_LABELS = "40 of its 400 training labels look wrong: correct them and train again."
ALL_CAUSES = [FEW_ROWS, WRONG_LABELS]
SHEET = "macro_f1 >= 0.7\np95_ms <= 300 ms\n"


@pytest.fixture
def world(services, api_key):
    return clients_world(services, api_key)


def trained(world, found, *, requirements=None, encoding=None):
    """The model of a job that ended with this evaluation."""
    task = world.running(requirements=requirements)
    with world.services() as s:
        s.job_worker.record_encoded(task.job_id, task.fence, encoding or encoded())
        model = s.job_worker.publish_checkpoint(task.job_id, task.fence, 2, adapter("a/2"), metric(2), is_final=True)
        s.job_worker.record_evaluation(task.job_id, task.fence, found)
        s.job_worker.succeed(task.job_id, task.fence, trained_tokens=20)
    return f"/v1/models/{model}/stage"


def encoded(**changes):
    fields = {
        "run_id": "run-1",
        "rows_in": 400,
        "rows_trained": 400,
        "dropped": (),
        "truncated": 0,
        "tokens": 4000,
        "supervised_tokens": 400,
        "longest": 20,
        "total_steps": 10,
        "trainable_parameters": 100,
        "targets": ("q",),
    }
    return Encoded(**(fields | changes))


def tuned(value=0.8, p95=100.0):
    figures = (figure(value=value), figure("p95_ms", p95, low=p95 - 10, high=p95 + 10, higher_is_better=False))
    return scores(value, figures=figures)


def move(client, path, stage):
    return client.post(path, json={"stage": stage})


def test_a_model_that_meets_every_requirement_goes_from_candidate_to_serving(world, client):
    path = trained(world, evaluation(tuned=tuned()), requirements=SHEET)
    assert client.get(path).json()["stage"] == "candidate"
    assert move(client, path, "serving").json()["error"]["code"] == "not_approved"
    assert move(client, path, "approved").json()["stage"] == "approved"
    assert move(client, path, "serving").json()["stage"] == "serving"
    assert move(client, path, "candidate").json()["stage"] == "candidate"


def test_a_requirement_whose_interval_does_not_clear_the_limit_keeps_the_gate_closed_with_its_sentence(world, client):
    path = trained(world, evaluation(tuned=tuned(0.72)), requirements=SHEET)
    refused = move(client, path, "approved")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "requirements_not_met")
    assert "macro_f1 is 0.72 (0.67 to 0.77, 400 rows): >= 0.7 is not shown." in refused.json()["error"]["message"]
    assert "p95_ms" not in refused.json()["error"]["message"]
    assert client.get(path).json()["stage"] == "candidate"


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (evaluation("worse", -0.1, tuned=tuned()), "worse than the base"),
        (evaluation("too_little_data"), "not shown to be better than the base (too little data)"),
        (evaluation(baseline_better=("majority",)), "A cheap answer is at least as good: majority."),
        (evaluation(judgement=None), "older than requirements and verdicts"),
    ],
)
def test_without_requirements_a_model_must_have_been_shown_to_be_better(world, client, found, words):
    refused = move(client, trained(world, found), "approved")
    assert refused.status_code == 409
    assert words in refused.json()["error"]["message"]


@pytest.mark.parametrize(
    ("rows_in", "suspects", "words"),
    [
        (12, 0, [FEW_ROWS]),
        (400, 40, [WRONG_LABELS]),
        (400, 16, []),
    ],
)
def test_a_closed_gate_names_what_in_the_training_data_may_be_to_blame(world, client, rows_in, suspects, words):
    given = {"rows_in": rows_in, "rows_trained": rows_in, "dropped": (), "suspect_label_count": suspects}
    path = trained(world, evaluation(tuned=tuned(0.5)), requirements=SHEET, encoding=encoded(**given))
    said = move(client, path, "approved").json()["error"]["message"]
    assert "macro_f1 is 0.5" in said
    blamed = [sentence for sentence in ALL_CAUSES if sentence in said]
    assert blamed == words


def test_a_better_model_without_requirements_is_approved(world, client):
    assert move(client, trained(world, evaluation()), "approved").json()["stage"] == "approved"


def test_a_worse_model_is_not_approved_though_it_meets_the_sheet(world, client):
    path = trained(world, evaluation("worse", -0.1, tuned=tuned()), requirements=SHEET)
    assert "It is worse than the base." in move(client, path, "approved").json()["error"]["message"]


def test_the_result_tells_each_requirement_and_the_paragraph_says_it(world, client):
    trained(world, evaluation(tuned=tuned(0.72)), requirements=SHEET)
    job = client.get("/v1/fine_tuning/jobs").json()["data"][0]
    assert job["requirements"] == SHEET
    found = client.get(f"/v1/fine_tuning/jobs/{job['id']}/evaluation").json()
    assert [one["outcome"] for one in found["requirements"]] == ["not_shown", "pass"]
    assert "Of 2 requirements 1 are met." in found["summary"]


def test_a_sheet_that_cannot_be_read_is_refused_at_the_door_with_its_line(client, world):
    file = world.add_file(b"{}", world.team)
    body = {"model": "tiny", "training_file": file, "requirements": "macro_f1 >= 0.8\nfast"}
    refused = client.post("/v1/fine_tuning/jobs", json=body)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "requirements")
    assert "line 2, 'fast'" in refused.json()["error"]["message"]


def test_moves_are_written_into_the_audit_log(world, client):
    path = trained(world, evaluation())
    move(client, path, "approved")
    move(client, path, "approved")
    with world.services() as s:
        kinds = [event.action for event in s.audit.page(world.team.team_id, limit=50).rows]
    assert kinds.count("model.stage") == 1


def test_models_of_other_teams_and_absent_ones_have_no_stage(client):
    assert client.get("/v1/models/ft:tiny:x:y:z/stage").status_code == 404
    assert move(client, "/v1/models/tiny/stage", "approved").status_code == 404


def test_the_difference_of_a_figure_is_no_figure_of_the_sheet(world, client):
    found = evaluation(tuned=tuned())
    judged = found.judgement.model_copy(update={"comparisons": (comparison("injection_rise", 0.1),)})
    path = trained(world, found.model_copy(update={"judgement": judged}), requirements="injection_rise <= 5 points")
    assert "injection_rise" in move(client, path, "approved").json()["error"]["message"]


def scored(world, client, stage_path, found):
    """An evaluation on demand of the model, with this result; its id."""
    model = stage_path.removeprefix("/v1/models/").removesuffix("/stage")
    file = world.add_file(chat_rows(12, start=500))
    body = {"model": model, "file": file, "requirements": SHEET}
    created = client.post("/v1/evaluations", json=body).raise_for_status().json()["id"]
    world.validate()
    task = world.claim()
    with world.services() as s:
        s.job_worker.record_evaluation(created, task.fence, found)
        s.job_worker.succeed(created, task.fence, trained_tokens=0)
    return created


def test_an_evaluation_on_demand_opens_the_gate_where_it_is_named(world, client):
    path = trained(world, evaluation(tuned=tuned(0.72)), requirements=SHEET)
    good = scored(world, client, path, evaluation(tuned=tuned(0.9)))
    bad = scored(world, client, path, evaluation(tuned=tuned(0.5)))
    assert move(client, path, "approved").status_code == 409
    refused = client.post(path, json={"stage": "approved", "evaluation": bad})
    assert (refused.status_code, "macro_f1 is 0.5" in refused.json()["error"]["message"]) == (409, True)
    assert client.post(path, json={"stage": "approved", "evaluation": good}).json()["stage"] == "approved"
    with world.services() as s:
        last = s.audit.page(world.team.team_id, object_id=None, limit=1).rows[0]
    assert (last.action, last.data["evaluation"]) == ("model.stage", good)


def test_the_evaluation_of_another_model_opens_nothing(world, client):
    path = trained(world, evaluation(tuned=tuned(0.72)), requirements=SHEET)
    other = trained(world, evaluation(tuned=tuned(0.9)), requirements=SHEET)
    found = scored(world, client, other, evaluation(tuned=tuned(0.9)))
    refused = client.post(path, json={"stage": "approved", "evaluation": found})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "evaluation")
    assert client.post(path, json={"stage": "approved", "evaluation": "fteval_none"}).status_code == 404


def test_an_expectation_that_is_not_met_keeps_the_gate_closed_with_its_input_and_reason(world, client):
    path = trained(world, evaluation(expectations=(outcome(), outcome(passed=False))))
    refused = move(client, path, "approved")
    assert refused.status_code == 409
    said = "1 of 2 expectations are not met. 'Where is my parcel?': The answer is not 'delivery'."
    assert said in refused.json()["error"]["message"]
    assert move(client, trained(world, evaluation(expectations=(outcome(),))), "approved").status_code == 200
