"""Evaluations on demand: submitted, claimed and ended as jobs of the pool, and never seen among the trainings."""

import pytest

from app.db.tables import Job
from app.errors import InvalidInput
from app.jobs.evaluation_schemas import EvaluationCreate
from app.jobs.states import JobPurpose
from app.jobs.worker_messages import TrainingTask
from tests.support.evaluations import evaluation
from tests.support.job_world import OWNER, adapter, chat_rows, clients_world, labelled_rows, metric

PATH = "/v1/evaluations"


@pytest.fixture
def world(services, api_key):
    return clients_world(services, api_key)


def trained(world, key="a/1", **body) -> tuple[str, TrainingTask]:
    """A model, and the task of the job that made it."""
    task = world.running(**body)
    with world.services() as s:
        model = s.job_worker.publish_checkpoint(task.job_id, task.fence, 2, adapter(key), metric(2), is_final=True)
        s.job_worker.succeed(task.job_id, task.fence, trained_tokens=20)
    return model, task


def submitted(world, client, model, *, rows=None, **body):
    file = world.add_file(chat_rows(12, start=500) if rows is None else rows)
    return client.post(PATH, json={"model": model, "file": file, **body})


def test_a_model_is_scored_on_rows_of_ones_choice_and_its_result_is_read_as_json_and_as_a_page(world, client):
    model, maker = trained(world, requirements="macro_f1 >= 0.7")
    created = submitted(world, client, model).raise_for_status().json()
    assert (created["status"], created["model"], created["against"]) == ("validating_files", model, "tiny")
    assert (created["leakage_checked"], created["result"]) == (True, None)
    assert created["requirements"] == "macro_f1 >= 0.7", "the sheet of the job that made the model"
    assert world.validate() == created["id"]
    task = world.claim()
    assert (task.job_id, task.purpose, task.against) == (created["id"], JobPurpose.EVALUATION, None)
    assert (task.parent.model_id, task.training_file.file_id) == (model, maker.training_file.file_id)
    with world.services() as s:
        s.job_worker.record_evaluation(task.job_id, task.fence, evaluation())
        s.job_worker.succeed(task.job_id, task.fence, trained_tokens=0)
    path = f"{PATH}/{created['id']}"
    found = client.get(path).json()
    assert (found["status"], found["result"]["judgement"]["verdict"]) == ("succeeded", "better")
    assert found["result"]["requirements"][0]["outcome"] == "pass"
    assert found["result"]["summary"] in client.get(f"{path}/report").raise_for_status().text
    assert [one["id"] for one in client.get(PATH, params={"model": model}).json()["data"]] == [created["id"]]
    assert client.get(PATH, params={"model": "ft:tiny:other"}).json()["data"] == []
    said = [event["message"] for event in client.get(f"{path}/events").json()["data"]]
    assert said[0] == "The job has successfully completed"
    assert "Evaluation started" in said
    stream = client.get(f"{path}/stream", headers={"last-event-id": "0"}).text
    assert '"status": "succeeded"' in stream


def test_an_earlier_model_stands_in_the_bases_place(world, client):
    first, _ = trained(world)
    second, _ = trained(world, key="a/2")
    created = submitted(world, client, second, against=first).raise_for_status().json()
    assert created["against"] == first
    assert world.validate() == created["id"]
    task = world.claim()
    assert (task.parent.model_id, task.against.model_id) == (second, first)
    for model in (first, second):
        refused = client.delete(f"/v1/models/{model}")
        assert (refused.status_code, created["id"] in refused.json()["error"]["message"]) == (409, True)


def test_trainings_and_evaluations_are_never_taken_for_each_other(world, client):
    model, maker = trained(world)
    evaluation_id = submitted(world, client, model).json()["id"]
    jobs = "/v1/fine_tuning/jobs"
    assert [job["id"] for job in client.get(jobs).json()["data"]] == [maker.job_id]
    assert client.get(f"{jobs}/{evaluation_id}").status_code == 404
    assert client.post(f"{jobs}/{evaluation_id}/cancel").status_code == 404
    assert client.get(f"{PATH}/{maker.job_id}").status_code == 404
    assert client.post(f"{PATH}/{maker.job_id}/cancel").status_code == 404


def test_an_evaluation_is_cancelled_once_it_runs_too_and_not_after_its_end(world, client):
    model, _ = trained(world)
    path = f"{PATH}/{submitted(world, client, model).json()['id']}"
    world.validate()
    task = world.claim(OWNER)
    assert client.get(f"{path}/report").status_code == 404
    assert client.post(f"{path}/cancel").json()["status"] == "cancelled"
    with world.services() as s:
        assert s.job_worker.heartbeat(task.job_id, task.fence).value == "cancel"
        s.job_worker.release(task.job_id, task.fence)
    second = submitted(world, client, model).json()["id"]
    with world.services() as s:
        s.work.session.get(Job, second).status = "succeeded"
    refused = client.post(f"{PATH}/{second}/cancel")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "invalid_job_state")


@pytest.mark.parametrize(
    ("change", "param", "words"),
    [
        ({"model": "tiny"}, "model", "is a base"),
        ({"model": "ft:tiny:acme::nothing1"}, "model", "does not exist"),
        ({"against": "tiny"}, "against", "is a base"),
        ({"against": "MODEL"}, "against", "with itself"),
        ({"file": "file-none"}, "file", "invalid file"),
        ({"file": "TRAINED"}, "file", "what it remembers"),
        ({"requirements": "macro_f1 is good"}, "requirements", "line 1"),
    ],
)
def test_what_cannot_be_scored_is_refused_at_the_door(world, client, change, param, words):
    model, maker = trained(world)
    names = {"MODEL": model, "TRAINED": maker.training_file.file_id}
    body = {"model": model, "file": world.add_file(chat_rows(12, start=500))}
    body |= {name: names.get(value, value) for name, value in change.items()}
    refused = client.post(PATH, json=body)
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == param
    assert words in refused.json()["error"]["message"]


def test_models_of_different_labels_cannot_stand_side_by_side(world, client):
    world.add_base("enc", kind="encoder")
    chat, _ = trained(world)
    texts, _ = trained(world, key="a/2", model="enc", rows=labelled_rows(40))
    refused = submitted(world, client, texts, rows=labelled_rows(12), against=chat)
    assert refused.json()["error"]["param"] == "against"


def test_rows_with_labels_that_the_model_does_not_know_end_the_evaluation_with_their_names(world, client):
    world.add_base("enc", kind="encoder")
    model, _ = trained(world, model="enc", rows=labelled_rows(40))
    rows = labelled_rows(12) + b'\n{"text": "my parrot", "label": "pets"}'
    created = submitted(world, client, model, rows=rows).json()["id"]
    world.validate()
    failed = client.get(f"{PATH}/{created}").json()
    assert (failed["status"], failed["error"]["param"]) == ("failed", "file")
    assert "does not know the label(s) 'pets'" in failed["error"]["message"]


def test_where_the_training_file_is_gone_the_rows_stand_alone_and_the_answer_says_so(world, client):
    model, maker = trained(world)
    client.delete(f"/v1/files/{maker.training_file.file_id}").raise_for_status()
    created = submitted(world, client, model).raise_for_status().json()
    assert created["leakage_checked"] is False
    assert world.validate() == created["id"]
    assert world.claim().training_file.file_id == created["file"]


def test_another_team_sees_nothing_of_it(world, client, services):
    model, _ = trained(world)
    other = world.add_team("rival")
    body = EvaluationCreate(model=model, file=world.add_file(chat_rows(12), other))
    with services() as s, pytest.raises(InvalidInput, match="does not exist"):
        s.evaluations.submit(other, body)
    with services() as s:
        found = s.evaluations.page(other, model_id=None, after=None, limit=10)
    assert found.rows == []


CASES = [
    {"input": "Where is my parcel?", "kind": "equals", "value": "card"},
    {"input": "x", "kind": "min_length", "value": 2},
]


def test_expectations_of_a_job_reach_its_worker_and_its_models_later_evaluations(world, client):
    model, maker = trained(world, expectations=CASES)
    assert [one.kind for one in maker.expectations] == ["equals", "min_length"]
    shown = client.get(f"/v1/fine_tuning/jobs/{maker.job_id}").json()["expectations"]
    assert shown[0] == {**CASES[0], "ignores_case": False}
    submitted(world, client, model).raise_for_status()
    world.validate()
    assert world.claim().expectations == maker.expectations
    submitted(world, client, model, expectations=CASES[:1]).raise_for_status()
    world.validate()
    assert world.claim("host-1/x").expectations == maker.expectations[:1]


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ({"input": "a", "kind": "regex", "value": "("}, "expectation 1: '(' is no regular expression"),
        (
            {"input": "a", "kind": "json_schema", "value": {"type": "no such type"}},
            "the JSON schema is wrong at $.type",
        ),
        ({"input": "a" * 20_001, "kind": "min_length", "value": 1}, "20000"),
        ({"input": "a", "kind": "min_length", "value": "long"}, "a whole number of characters"),
        ({"input": "a", "kind": "sounds_like", "value": "b"}, "kind"),
    ],
)
def test_an_expectation_that_cannot_be_checked_is_refused_at_the_door(world, client, case, words):
    body = {"model": "tiny", "training_file": world.add_file(chat_rows(30)), "expectations": [case]}
    refused = client.post("/v1/fine_tuning/jobs", json=body)
    assert refused.status_code == 400
    assert words in refused.json()["error"]["message"]
    assert refused.json()["error"]["param"].startswith("expectations")
