"""An evaluation on demand from the queue to its result, by a real supervisor and a scripted engine."""

import json
import threading

import pytest

from app.jobs.evaluation_schemas import EvaluationCreate
from tests.support.house import HOST, House
from workers.supervisor.identity import WorkerName
from workers.supervisor.round import inspect_round


@pytest.fixture
def model(house: House) -> str:
    job_id = house.submit()
    with house.gpu_worker():
        job = house.wait_for_status(job_id, "succeeded")
    assert job.tuned_model_id is not None
    return job.tuned_model_id


def evaluate(house: House, model: str, *, first: int = 100, against: str | None = None) -> str:
    """A queued evaluation on twelve rows."""
    lines = [
        {
            "messages": [
                {"role": "user", "content": f"question {number} of the test"},
                {"role": "assistant", "content": "billing" if number % 2 else "delivery"},
            ]
        }
        for number in range(first, first + 12)
    ]
    data = "".join(json.dumps(line) + "\n" for line in lines).encode()
    with house.services() as services:
        file = services.files.create_from_stream(
            house.caller.team_id, house.caller.actor, iter([data]), filename="rows.jsonl", purpose="fine-tune"
        )
    with house.services() as services:
        body = EvaluationCreate(model=model, file=file.id, against=against)
        evaluation_id = services.evaluations.submit(house.caller, body).id
    inspect_round(house.context, WorkerName("cpu0", HOST), threading.Event())
    return evaluation_id


def messages(house: House, evaluation_id: str) -> list[str]:
    with house.services() as services:
        page = services.evaluations.events(house.caller, evaluation_id, after=None, limit=100)
    return [event.message for event in page.rows]


def test_an_evaluation_on_demand_scores_every_row_and_trains_nothing(house: House, model: str) -> None:
    evaluation_id = evaluate(house, model)
    with house.gpu_worker():
        job = house.wait_for_status(evaluation_id, "succeeded")
    assert job.evaluation is not None
    assert job.evaluation["rows"] == 12
    assert (house.metrics(evaluation_id), house.models(evaluation_id), job.result_file_id) == ({}, {}, None)
    assert "Evaluating base and tuned model on 12 held-out rows." in messages(house, evaluation_id)
    assert not list(house.folder.glob("scratch/gpu0/jobs/*"))


def test_an_engine_that_dies_while_it_scores_costs_an_attempt_and_no_result(house: House, model: str) -> None:
    house.script({"phase": "evaluate", "kind": "sigkill", "times": 1})
    evaluation_id = evaluate(house, model, against=None)
    with house.gpu_worker():
        job = house.wait_for_status(evaluation_id, "succeeded")
    assert job.attempts == 1
    assert job.evaluation is not None


def test_a_cancelled_evaluation_frees_the_gpu_and_leaves_no_result(house: House, model: str) -> None:
    house.script({"phase": "evaluate", "kind": "hold"})
    evaluation_id = evaluate(house, model)
    with house.gpu_worker():
        house.wait_until(lambda: house.reached("evaluate"), "the evaluation runs")
        with house.services() as services:
            services.evaluations.cancel(house.caller, evaluation_id)
        house.wait_until(lambda: house.job(evaluation_id).owner is None, "the worker let go")
    job = house.job(evaluation_id)
    assert (job.status, job.evaluation) == ("cancelled", None)


def test_an_earlier_model_is_fetched_to_stand_beside_it(house: House, model: str) -> None:
    other = house.submit(epochs=1)
    with house.gpu_worker():
        later = house.wait_for_status(other, "succeeded").tuned_model_id
    assert later is not None
    evaluation_id = evaluate(house, later, against=model)
    with house.gpu_worker():
        house.wait_for_status(evaluation_id, "succeeded")
    assert f"Evaluating {model} and tuned model on 12 held-out rows." in messages(house, evaluation_id)
