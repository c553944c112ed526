"""The official client, a live API, a cpu worker's round, and the real serving engine with a tiny random base."""

import threading

import pytest

from app.db.tables import BaseModelRow
from tests.support.eval_world import CUSTOM, EXACT, completions
from tests.support.serving_engine import serving_engine
from tests.support.tiny_models import build_tiny_base
from workers.supervisor.identity import WorkerName
from workers.supervisor.round import cpu_round
from workers.supervisor.score_run import Scoring

pytestmark = pytest.mark.slow
_ITEMS = 24


@pytest.fixture(scope="module")
def engine_url(tmp_path_factory):
    with serving_engine(tmp_path_factory.mktemp("engine")) as url:
        yield url


@pytest.fixture
def settings(settings, engine_url):
    return settings.model_copy(update={"server_url": engine_url})


@pytest.fixture
def tiny(context):
    ref = build_tiny_base(context.settings.bases_dir / "tiny", context_length=256)
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


def work(context):
    cpu_round(context, WorkerName("cpu0", "test-host"), threading.Event(), Scoring())


def test_a_real_model_is_asked_and_a_repeated_run_gives_the_same_answers(openai_client, context, tiny):
    made = openai_client.evals.create(data_source_config=CUSTOM, testing_criteria=[EXACT])
    runs = openai_client.evals.runs
    words = [f"word {number}" for number in range(_ITEMS)]
    sampling = {"temperature": 0.7, "max_completion_tokens": 6}
    both = [runs.create(made.id, data_source=completions(words, sampling_params=sampling)) for _ in range(2)]
    work(context)
    answers = []
    for run in both:
        done = runs.retrieve(run.id, eval_id=made.id)
        assert (done.status, done.result_counts.total, done.result_counts.errored) == ("completed", _ITEMS, 0)
        assert done.per_model_usage[0].invocation_count == _ITEMS
        assert 0 < done.per_model_usage[0].completion_tokens <= 6 * _ITEMS
        items = list(runs.output_items.list(run.id, eval_id=made.id))
        assert all(item.sample.usage.prompt_tokens > 0 for item in items)
        answers.append([item.sample.output[0].content for item in items])
    assert answers[0] == answers[1]
    assert len(set(answers[0])) > 1
