"""Predictions on the thread that also generates."""

import queue

import pytest
import torch

from app.contracts.errors import WorkerFailure
from app.contracts.generation import ErrorLine
from app.contracts.predictions import MAX_INPUTS, Predictions, PredictSpec
from app.contracts.specs import AdapterTask, GenerateSpec, SamplingSpec
from tests.support.random_adapters import random_classifier, write_adapter
from tests.support.tiny_encoders import build_tiny_encoder
from workers.engine.base_model import load_base
from workers.engine.inference.models_cache import ModelsCache
from workers.engine.inference.predict import predict
from workers.engine.inference.prediction_turns import PredictJob
from workers.engine.inference.scheduler import Job, Scheduler

TASK = AdapterTask(recipe="text_classification", labels=("billing", "delivery"))
WAIT_SECONDS = 30


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNESMITH_ENGINE_DTYPE", "float32")
        return load_base(build_tiny_encoder(tmp_path_factory.mktemp("encoder")), torch.device("cpu"))


@pytest.fixture(scope="module")
def classifier(encoder, tmp_path_factory):
    adapter = random_classifier(encoder, TASK)
    return adapter, write_adapter(tmp_path_factory.mktemp("adapters") / "one", adapter, encoder, "ft:one")


@pytest.fixture
def make_scheduler(encoder, resident):
    """Schedulers over the encoder and the decoder, ended after the test."""
    started = []
    by_hash = {base.ref.weights_sha256: base for base in (encoder, resident)}

    def make(max_bases=2):
        models = ModelsCache(
            torch.device("cpu"), max_bases=max_bases, max_adapters=2, load=lambda ref, _: by_hash[ref.weights_sha256]
        )
        started.append(Scheduler(models))
        started[-1].start()
        return started[-1]

    yield make
    for scheduler in started:
        scheduler.stop()
        scheduler.join(WAIT_SECONDS)
        assert not scheduler.is_alive


def spec_of(encoder, ref, inputs=("My parcel is late.",), **fields):
    return PredictSpec(base=encoder.ref, adapter=ref, inputs=inputs, **fields)


def submit(scheduler, spec):
    """The job and the queue its one answer comes to."""
    answers = queue.SimpleQueue()
    job = PredictJob(spec, answers.put)
    scheduler.submit(job)
    return job, answers


def answer(scheduler, spec):
    return submit(scheduler, spec)[1].get(timeout=WAIT_SECONDS)


def endless(resident):
    """A request that writes until it is cancelled; the queue its lines come to."""
    lines = queue.SimpleQueue()
    sampling = SamplingSpec(max_new_tokens=500, logit_bias={2: -100}, clip_to_context=True)
    return Job(GenerateSpec(base=resident.ref, prompt="Hello", sampling=sampling), lines.put), lines


def test_a_prediction_is_what_the_plain_function_says(make_scheduler, encoder, classifier):
    adapter, ref = classifier
    found = answer(make_scheduler(), spec_of(encoder, ref, inputs=("My parcel is late.", "Hello")))
    assert isinstance(found, Predictions)
    assert found.predictions == predict(encoder, adapter, ["My parcel is late.", "Hello"]).predictions


def test_predictions_are_answered_while_a_text_is_being_written(make_scheduler, encoder, resident, classifier):
    scheduler = make_scheduler()
    job, lines = endless(resident)
    scheduler.submit(job)
    assert lines.get(timeout=WAIT_SECONDS).kind == "delta"
    for _ in range(3):
        assert isinstance(answer(scheduler, spec_of(encoder, classifier[1])), Predictions)
    assert scheduler.running == 1
    job.is_cancelled = True


def test_a_text_is_written_on_while_many_texts_are_predicted(make_scheduler, encoder, resident, classifier):
    scheduler = make_scheduler()
    job, lines = endless(resident)
    scheduler.submit(job)
    assert lines.get(timeout=WAIT_SECONDS).kind == "delta"
    before = lines.qsize()
    many = tuple("my parcel is late. " * 30 for _ in range(MAX_INPUTS))  # more batches than one
    found = answer(scheduler, spec_of(encoder, classifier[1], inputs=many))
    assert len(found.predictions) == MAX_INPUTS
    assert lines.qsize() > before + 3
    job.is_cancelled = True


def test_a_cancelled_prediction_ends_without_an_answer(make_scheduler, encoder, classifier):
    scheduler = make_scheduler()
    many = tuple("my parcel is late. " * 30 for _ in range(MAX_INPUTS))
    job, answers = submit(scheduler, spec_of(encoder, classifier[1], inputs=many))
    job.is_cancelled = True
    # First come, first served: when this one is answered, the other has been seen.
    assert isinstance(answer(scheduler, spec_of(encoder, classifier[1])), Predictions)
    assert scheduler.running == 0
    assert answers.empty()


def test_more_bases_than_fit_take_turns_with_predictions(make_scheduler, encoder, resident, classifier):
    scheduler = make_scheduler(max_bases=1)
    for _ in range(2):
        assert isinstance(answer(scheduler, spec_of(encoder, classifier[1])), Predictions)
        lines = queue.SimpleQueue()
        sampling = SamplingSpec(max_new_tokens=2)
        scheduler.submit(Job(GenerateSpec(base=resident.ref, prompt="Hello", sampling=sampling), lines.put))
        assert lines.get(timeout=WAIT_SECONDS).kind == "delta"


def test_equal_weights_under_other_labels_are_another_model(make_scheduler, encoder, tmp_path):
    scheduler = make_scheduler()
    said = []
    for labels in (("billing", "delivery"), ("Rechnung", "Lieferung")):
        adapter = random_classifier(encoder, AdapterTask(recipe="text_classification", labels=labels))
        ref = write_adapter(tmp_path / labels[0], adapter, encoder, f"ft:{labels[0]}")
        found = answer(scheduler, spec_of(encoder, ref))
        said.append((ref.sha256, {entry.label for entry in found.predictions[0].scores}))
    assert said[0][0] == said[1][0]
    assert [labels for _, labels in said] == [{"billing", "delivery"}, {"Rechnung", "Lieferung"}]


def test_a_model_that_moved_nothing_is_refused(make_scheduler, encoder, tmp_path):
    lazy = random_classifier(encoder, TASK, scale=0)
    lazy.probe = (lazy.vectors["head.weight"].detach().clone(), lazy.vectors["head.bias"].detach().clone())
    ref = write_adapter(tmp_path / "lazy", lazy, encoder, "ft:lazy")
    found = answer(make_scheduler(), spec_of(encoder, ref))
    assert isinstance(found, ErrorLine)
    assert found.error.code == "adapter_inactive"


def test_a_head_that_learned_on_unmoved_layers_is_served(make_scheduler, encoder, tmp_path):
    ref = write_adapter(tmp_path / "head", random_classifier(encoder, TASK, scale=0), encoder, "ft:head")
    assert isinstance(answer(make_scheduler(), spec_of(encoder, ref)), Predictions)


@pytest.mark.parametrize("is_tuned", [True, False])
def test_an_encoder_writes_no_text(make_scheduler, encoder, classifier, is_tuned):
    spec = GenerateSpec(
        base=encoder.ref,
        adapter=classifier[1] if is_tuned else None,
        prompt="Hello",
        sampling=SamplingSpec(max_new_tokens=2),
    )
    lines = queue.SimpleQueue()
    make_scheduler().submit(Job(spec, lines.put))
    error = lines.get(timeout=WAIT_SECONDS).error
    assert (error.kind, error.code, error.param) == ("usage", "unsupported_task", "model")


def test_a_decoder_with_a_head_writes_no_text(make_scheduler, resident, tmp_path):
    adapter = random_classifier(resident, TASK)
    ref = write_adapter(tmp_path / "head", adapter, resident, "ft:decoder")
    scheduler = make_scheduler()
    lines = queue.SimpleQueue()
    sampling = SamplingSpec(max_new_tokens=2)
    scheduler.submit(Job(GenerateSpec(base=resident.ref, adapter=ref, prompt="Hi", sampling=sampling), lines.put))
    assert "ask it to predict" in lines.get(timeout=WAIT_SECONDS).error.message
    found = answer(scheduler, PredictSpec(base=resident.ref, adapter=ref, inputs=("Hello",)))
    assert found.predictions == predict(resident, adapter, ["Hello"]).predictions


def test_a_step_that_breaks_costs_its_request_and_nothing_else(make_scheduler, encoder, classifier, monkeypatch, capfd):
    scheduler = make_scheduler()

    def burn(*_):
        raise RuntimeError("the disk is on fire")

    with monkeypatch.context() as patch:
        patch.setattr("workers.engine.inference.predict_heads.head_logits", burn)
        found = answer(scheduler, spec_of(encoder, classifier[1]))
    assert (found.error.kind, found.error.code) == ("fatal", "engine_error")
    assert "fire" not in found.error.message
    assert "the disk is on fire" in capfd.readouterr().err
    assert isinstance(answer(scheduler, spec_of(encoder, classifier[1])), Predictions)


def test_a_scheduler_that_stops_says_so_to_who_still_waits(make_scheduler, encoder, classifier, monkeypatch):
    scheduler = make_scheduler()
    many = tuple("my parcel is late. " * 30 for _ in range(MAX_INPUTS))
    begun = queue.SimpleQueue()
    plain = torch.nn.functional.linear

    def stop_first(_, features):
        scheduler.stop()
        begun.put(True)
        return plain(features.float(), *classifier[0].vectors.values())

    monkeypatch.setattr("workers.engine.inference.predict_heads.head_logits", stop_first)
    _, answers = submit(scheduler, spec_of(encoder, classifier[1], inputs=many))
    assert begun.get(timeout=WAIT_SECONDS)
    found = answers.get(timeout=WAIT_SECONDS)
    assert found.error.code == "server_stopping"
    with pytest.raises(WorkerFailure, match="stopping"):
        submit(scheduler, spec_of(encoder, classifier[1]))
