"""The official clients of OpenAI and Hugging Face, a live API and the real serving engine with a tiny BERT and T5."""

import io
import json
import tarfile
from pathlib import Path
from urllib.parse import quote

import openai
import pytest
import torch
from huggingface_hub import InferenceClient

from app.contracts.specs import AdapterTask
from app.db.tables import BaseModelRow, TunedModel
from tests.support.random_adapters import random_adapter, random_classifier
from tests.support.serving_engine import serving_engine
from tests.support.tiny_encoders import build_tiny_encoder
from tests.support.tiny_seq2seq import build_seq2seq_base
from workers.engine.base_model import load_base
from workers.engine.inference.predict import predict
from workers.engine.training.adapter_files import encode_adapter, weights_sha256
from workers.engine.training.synced_files import write_file

TEXT = "The machine is broken, and I want my money back in Zürich."
TASKS = {
    "classifier": AdapterTask(recipe="text_classification", labels=("billing", "delivery", "repair")),
    "labeller": AdapterTask(
        recipe="text_classification", labels=("billing", "delivery", "repair"), is_multi_label=True
    ),
    "tagger": AdapterTask(recipe="token_classification", labels=("THING", "WISH")),
    "summariser": AdapterTask(recipe="summarization"),
}
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def engine_url(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNESMITH_ENGINE_DTYPE", "float32")
        with serving_engine(tmp_path_factory.mktemp("engine")) as url:
            yield url


@pytest.fixture
def settings(settings, engine_url):
    return settings.model_copy(update={"server_url": engine_url})


def registered(context, ref, kind):
    """The base as this process loads it."""
    with context.database.unit_of_work() as work:
        work.session.add(
            BaseModelRow(
                id=ref.id,
                folder=Path(ref.path).name,
                kind=kind,
                licence="test",
                source="test",
                context_length=ref.context_length,
                parameters=30_000,
                has_chat_template=False,
                files={},
                weights_sha256=ref.weights_sha256,
            )
        )
    return load_base(ref, torch.device("cpu"))


class Models:
    """Tuned models in the registry, and what this process says they say."""

    def __init__(self, context, team_id, encoder, seq2seq, folder):
        self._folder = folder
        self._residents = {name: seq2seq if task.recipe == "summarization" else encoder for name, task in TASKS.items()}
        self._adapters = {
            name: (random_classifier if task.labels else random_adapter)(self._residents[name], task)
            for name, task in TASKS.items()
        }
        for name, adapter in self._adapters.items():
            self._register(context, team_id, name, adapter)

    def _register(self, context, team_id, name, adapter):
        resident = self._residents[name]
        folder = self._folder / name
        folder.mkdir()
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for file, contents in encode_adapter(adapter, resident.ref.id, resident.family).items():
                write_file(folder / file, contents)
                tar.add(folder / file, file)
        writer = context.artifacts.open_writer(f"adapters/{name}.tar")
        writer.write(buffer.getvalue())
        stored = writer.commit()
        with context.database.unit_of_work() as work:
            work.session.add(
                TunedModel(
                    id=self.id(name),
                    team_id=team_id,
                    base_id=resident.ref.id,
                    job_id=f"ftjob-{name}",
                    step=3,
                    is_final=True,
                    recipe=TASKS[name].recipe,
                    labels=list(TASKS[name].labels or ()),
                    is_multi_label=TASKS[name].is_multi_label,
                    adapter_sha256=weights_sha256(folder),
                    archive_key=stored.key,
                    archive_sha256=stored.sha256,
                    archive_bytes=stored.bytes,
                    files={},
                )
            )

    @staticmethod
    def id(name):
        return f"ft:tiny:default::{name}"

    def expected(self, name, text=TEXT):
        return predict(self._residents[name], self._adapters[name], [text], max_new_tokens=9).predictions[0]


@pytest.fixture
def models(context, services, api_key, monkeypatch, tmp_path):
    monkeypatch.setenv("TUNESMITH_ENGINE_DTYPE", "float32")
    with services() as opened:
        team_id = opened.identity.authenticate(api_key).team_id
    folder = context.settings.bases_dir
    encoder = registered(context, build_tiny_encoder(folder / "tiny-bert"), "encoder")
    seq2seq = registered(context, build_seq2seq_base(folder / "t5", "t5"), "encoder_decoder")
    return Models(context, team_id, encoder, seq2seq, tmp_path)


def ask(client, name, **fields):
    return client.chat.completions.create(
        model=Models.id(name), messages=[{"role": "user", "content": TEXT}], temperature=0, **fields
    )


def test_the_openai_client_reads_labels_and_spans(openai_client, models):
    label = ask(openai_client, "classifier")
    assert label.choices[0].message.content == models.expected("classifier").chosen[0]
    assert label.usage.prompt_tokens > 10
    assert label.usage.completion_tokens == 0
    assert [entry["label"] for entry in label.model_extra["prediction"]["scores"]] == [
        entry.label for entry in models.expected("classifier").scores
    ]
    chosen = json.loads(ask(openai_client, "labeller").choices[0].message.content)
    assert chosen == list(models.expected("labeller").chosen)
    spans = json.loads(ask(openai_client, "tagger").choices[0].message.content)
    assert spans
    assert all(span["text"] == TEXT[span["start"] : span["end"]] for span in spans)
    assert [(span["start"], span["label"]) for span in spans] == [
        (span.start, span.label) for span in models.expected("tagger").spans
    ]
    text = ask(openai_client, "summariser", max_completion_tokens=9)
    assert text.choices[0].message.content == models.expected("summariser").text
    assert 0 < text.usage.completion_tokens <= 9


def test_the_openai_client_streams_a_label(openai_client, models):
    chunks = list(ask(openai_client, "classifier", stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == models.expected("classifier").chosen[0]
    assert chunks[-1].usage.prompt_tokens > 10


def test_the_openai_client_is_told_where_texts_are_not_continued(openai_client, models):
    with pytest.raises(openai.BadRequestError, match="predict"):
        openai_client.completions.create(model=Models.id("classifier"), prompt=TEXT)
    with pytest.raises(openai.BadRequestError, match="neither holds conversations"):
        openai_client.chat.completions.create(model="tiny-bert", messages=[{"role": "user", "content": TEXT}])


@pytest.fixture
def hugging_face(live_server, api_key, monkeypatch):
    """Hugging Face's own client for one of the models, by the address of its `predict`."""
    # The engine's code shuts the hub off; this client talks to our own server only.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)

    def client(name):
        url = f"{live_server}/v1/models/{quote(Models.id(name))}/predict"
        return InferenceClient(model=url, token=api_key)

    return client


def test_hugging_faces_client_reads_labels_with_their_scores(hugging_face, models):
    found = hugging_face("classifier").text_classification(TEXT)
    expected = models.expected("classifier").scores
    assert [entry.label for entry in found] == [entry.label for entry in expected]
    assert [entry.score for entry in found] == pytest.approx([entry.score for entry in expected], abs=1e-5)
    (top,) = hugging_face("labeller").text_classification(TEXT, top_k=1)
    assert top.score == pytest.approx(models.expected("labeller").scores[0].score, abs=1e-5)


def test_hugging_faces_client_reads_entities(hugging_face, models):
    found = hugging_face("tagger").token_classification(TEXT, aggregation_strategy="simple")
    expected = models.expected("tagger").spans
    assert found
    assert [(entry.entity_group, entry.word, entry.start, entry.end) for entry in found] == [
        (span.label, span.text, span.start, span.end) for span in expected
    ]


def test_hugging_faces_client_reads_summaries(hugging_face, models):
    found = hugging_face("summariser").summarization(TEXT, generate_parameters={"max_new_tokens": 9})
    assert found.summary_text == models.expected("summariser").text
