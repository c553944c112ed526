"""Costs of mistakes on a job: kept, checked against the rows' labels, handed to the worker."""

import openai
import pytest

from app.errors import InvalidInput
from tests.support.job_world import chat_rows, clients_world, labelled_rows

COSTS = {"default": 1, "pairs": [{"expected": "billing", "predicted": "card", "cost": 20}], "abstain": 5}


@pytest.fixture
def world(services, api_key):
    """The world of the client's own team, with an encoder."""
    world = clients_world(services, api_key)
    world.add_base("encoder", "encoder")
    return world


def test_costs_go_with_the_job_to_the_worker_and_stand_in_its_object(world, openai_client):
    jobs, file = openai_client.fine_tuning.jobs, world.add_file(labelled_rows(60))
    job = jobs.create(model="encoder", training_file=file, extra_body={"costs": COSTS})
    world.validate()
    assert world.job(job.id).status == "queued"
    assert world.claim().costs == jobs.retrieve(job.id).costs == COSTS
    assert jobs.create(model="encoder", training_file=file).costs is None


def test_costs_that_make_no_sense_are_refused_where_they_are_sent(world, openai_client):
    file = world.add_file(labelled_rows(60))
    with pytest.raises(openai.BadRequestError, match="no mistake costs anything") as caught:
        openai_client.fine_tuning.jobs.create(model="encoder", training_file=file, extra_body={"costs": {"default": 0}})
    assert caught.value.param == "costs"


def test_a_label_that_no_row_has_ends_validation_with_its_name(world):
    pairs = [{"expected": "billing", "predicted": "crad", "cost": 20}]
    job_id = world.submit(model="encoder", rows=labelled_rows(60), costs={"pairs": pairs})
    world.validate()
    error = world.job(job_id).error
    assert (world.job(job_id).status, error["code"], error["param"]) == ("failed", "costs_misfit", "costs")
    assert "'crad'" in error["message"]


@pytest.mark.parametrize("rows", [chat_rows(60), labelled_rows(60, several=True)])
def test_rows_that_have_not_one_label_each_have_no_costs(world, rows):
    job_id = world.submit(model="tiny" if rows == chat_rows(60) else "encoder", rows=rows, costs=COSTS)
    world.validate()
    assert world.job(job_id).error["code"] == "costs_misfit"
    assert "one label a text" in world.job(job_id).error["message"]


@pytest.mark.parametrize("body", [{"task": "summarization"}, {"task": "chat"}, {"method": {"type": "dpo"}}])
def test_costs_of_a_task_without_labels_are_refused_at_once(world, body):
    with pytest.raises(InvalidInput) as caught:
        world.submit(rows=chat_rows(12), costs=COSTS, **body)
    assert caught.value.param == "costs"
