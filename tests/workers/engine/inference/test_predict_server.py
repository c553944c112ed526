"""POST /predict of the serving process, over real HTTP on loopback."""

import json
import time

import httpx
import pytest
import torch

from app.contracts.generation import ErrorLine
from app.contracts.predictions import MAX_INPUTS, Predictions, PredictSpec
from app.contracts.specs import AdapterTask
from tests.support.random_adapters import random_classifier, write_adapter
from tests.support.tiny_encoders import build_tiny_encoder
from tests.workers.engine.inference.test_server import DEADLINE_SECONDS, TOKEN, bearer, start_server
from workers.engine.base_model import load_base
from workers.engine.inference.predict import predict

TEXTS = ("My parcel is late.", "I want my money back.")


class House:
    """A serving process and, in this process, the same models to compare with."""

    def __init__(self, folder):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TUNESMITH_ENGINE_DTYPE", "float32")
            self.base = build_tiny_encoder(folder / "base")
            self.resident = load_base(self.base, torch.device("cpu"))
        labels = AdapterTask(recipe="text_classification", labels=("billing", "delivery", "repair"))
        things = AdapterTask(recipe="token_classification", labels=("THING", "WISH"))
        self.classifier, self.tagger = (random_classifier(self.resident, task) for task in (labels, things))
        self.refs = {
            id(adapter): write_adapter(folder / name, adapter, self.resident, f"ft:{name}")
            for name, adapter in (("classifier", self.classifier), ("tagger", self.tagger))
        }
        self.process, self.url = start_server(folder)

    def spec(self, adapter=None, inputs=TEXTS, **fields):
        return PredictSpec(base=self.base, adapter=self.refs[id(adapter or self.classifier)], inputs=inputs, **fields)

    def post(self, spec, token=TOKEN):
        body = spec if isinstance(spec, str) else spec.model_dump_json()
        return httpx.post(f"{self.url}/predict", content=body, headers=bearer(token), timeout=DEADLINE_SECONDS)

    def running(self):
        found = httpx.get(f"{self.url}/health", timeout=DEADLINE_SECONDS).json()
        return found["running"] + found["waiting"]


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    torch.set_num_threads(1)
    found = House(tmp_path_factory.mktemp("predicting"))
    yield found
    found.process.terminate()
    assert found.process.wait(timeout=DEADLINE_SECONDS) == 0


def error_of(response):
    return ErrorLine.model_validate_json(response.text).error


def test_labels_and_entities_come_as_in_this_process(house):
    for adapter in (house.classifier, house.tagger):
        response = house.post(house.spec(adapter))
        assert response.status_code == 200, response.text
        found = Predictions.model_validate_json(response.content)
        expected = predict(house.resident, adapter, TEXTS)
        assert found.predictions == expected.predictions
        assert (found.input_tokens, found.truncated) == (expected.input_tokens, ())


def test_a_wrong_token_is_refused(house):
    response = house.post(house.spec(), token="wrong")
    assert response.status_code == 401
    assert error_of(response).code == "invalid_token"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"inputs": []}, "inputs"),
        ({"inputs": ["a"] * (MAX_INPUTS + 1)}, "inputs"),
        ({"adapter": None}, "adapter"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_bad_request_is_refused_with_its_reason(house, change, words):
    response = house.post(json.dumps(json.loads(house.spec().model_dump_json()) | change))
    assert response.status_code == 400
    assert error_of(response).code == "invalid_request"
    assert words in error_of(response).message


def test_an_adapter_whose_file_has_another_hash_is_refused(house):
    spec = house.spec()
    spec = spec.model_copy(update={"adapter": spec.adapter.model_copy(update={"sha256": "0" * 64})})
    response = house.post(spec)
    assert response.status_code == 503
    assert error_of(response).code == "adapter_hash_mismatch"


def test_a_client_that_goes_away_stops_the_work(house):
    many = house.spec(inputs=tuple("my parcel is late. " * 2000 for _ in range(MAX_INPUTS)))
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{house.url}/predict", content=many.model_dump_json(), headers=bearer(TOKEN), timeout=0.2)
    started = time.monotonic()
    while house.running():
        assert time.monotonic() < started + 10, "the request is still running"
