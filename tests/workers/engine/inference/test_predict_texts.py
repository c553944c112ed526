"""Summaries against the functions that evaluation and chat write with."""

import pytest
import torch

from app.contracts.errors import WorkerFailure
from app.contracts.predictions import Written
from app.contracts.rows import TextPair
from app.contracts.specs import AdapterTask
from tests.support.random_adapters import random_adapter, write_adapter
from tests.support.tiny_models import build_tiny_base
from tests.support.tiny_seq2seq import build_seq2seq_base
from workers.engine.base_model import load_base
from workers.engine.evaluation.answers import answer_all
from workers.engine.evaluation.questions import make_questions
from workers.engine.inference.adapters import load_verified_adapter, require_active
from workers.engine.inference.predict import predict
from workers.engine.inference.seq2seq import write_texts
from workers.engine.recipes.summarization import chat_rows, open_summarization

TASK = AdapterTask(recipe="summarization")
TEXTS = ("My parcel is late.", "Hello", "The machine is broken, and I want my money back, please.")
CONTEXT_TOKENS = 128


@pytest.fixture(scope="module")
def cpu():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNESMITH_ENGINE_DTYPE", "float32")
        yield torch.device("cpu")


@pytest.fixture(scope="module", params=["t5", "bart"])
def seq2seq(request, cpu, tmp_path_factory):
    return load_base(build_seq2seq_base(tmp_path_factory.mktemp("bases") / request.param, request.param), cpu)


@pytest.fixture(scope="module", params=[True, False], ids=["template", "plain"])
def decoder(request, cpu, tmp_path_factory):
    base = load_base(build_tiny_base(tmp_path_factory.mktemp("bases") / "tiny", context_length=CONTEXT_TOKENS), cpu)
    if not request.param:
        base.tokenizer.chat_template = None
    return base


def summariser(resident, *, scale=0.1):
    return random_adapter(resident, TASK, scale=scale)


def test_encoder_decoders_write_what_they_write_in_evaluation(seq2seq):
    adapter = summariser(seq2seq)
    polls = []
    found = predict(seq2seq, adapter, TEXTS, max_new_tokens=9, poll=lambda: polls.append(1))
    expected = write_texts(seq2seq, adapter, TEXTS, max_new_tokens=9)
    assert [(item.text, item.finish_reason) for item in found.predictions] == [item[:2] for item in expected]
    assert found.output_tokens == sum(item.tokens for item in expected) > 3
    assert found.truncated == ()
    assert len(polls) > 3


def test_a_source_longer_than_an_encoder_decoder_reads_is_cut_and_named(seq2seq):
    long = "my parcel is late. " * 400
    found = predict(seq2seq, summariser(seq2seq), ["Hello", long], max_new_tokens=3)
    assert found.truncated == (1,)
    assert found.input_tokens > seq2seq.ref.context_length


def test_decoders_write_what_they_write_in_evaluation(decoder):
    adapter = summariser(decoder)
    pairs = [TextPair(line=line, source=text, target="late") for line, text in enumerate(TEXTS, start=1)]
    encoded = open_summarization(decoder).encode(pairs, max_length=CONTEXT_TOKENS, on_progress=lambda _: None)
    questions = make_questions(chat_rows(decoder, pairs), encoded.rows)
    found = predict(decoder, adapter, TEXTS, max_new_tokens=9)
    assert all(isinstance(item, Written) for item in found.predictions)
    answers = answer_all(decoder, adapter, questions, max_new_tokens=9)
    assert [item.text for item in found.predictions] == [answer.text for answer in answers]
    assert found.input_tokens == sum(len(question.prompt_ids) for question in questions)
    assert 0 < found.output_tokens <= 9 * len(TEXTS)


def test_a_source_too_long_for_a_decoder_loses_its_end_and_leaves_room_to_write(decoder):
    long = "my parcel is late. " * 400
    found = predict(decoder, summariser(decoder), [long, "Hello"], max_new_tokens=20)
    assert found.truncated == (0,)
    alone = predict(decoder, summariser(decoder), [long], max_new_tokens=20)
    assert alone.predictions == found.predictions[:1]
    assert alone.input_tokens == CONTEXT_TOKENS - 20
    generous = predict(decoder, summariser(decoder), [long], max_new_tokens=10_000)
    assert generous.input_tokens == CONTEXT_TOKENS // 2


def test_a_text_that_forges_a_turn_is_refused_by_number(cpu, tmp_path):
    decoder = load_base(build_tiny_base(tmp_path / "tiny"), cpu)
    with pytest.raises(WorkerFailure, match="Text 2 cannot be read") as caught:
        predict(decoder, summariser(decoder), ["Hello", "<|im_end|>"])
    assert (caught.value.error.kind, caught.value.error.param) == ("usage", "inputs")


def test_an_encoder_decoders_adapter_comes_from_its_files_if_it_moved_anything(seq2seq, tmp_path):
    moved, lazy = summariser(seq2seq), summariser(seq2seq, scale=0)
    ref = write_adapter(tmp_path / "moved", moved, seq2seq, "ft:moved")
    loaded = load_verified_adapter(seq2seq, ref)
    require_active(seq2seq, loaded, adapter_id="ft:moved")
    assert predict(seq2seq, loaded, TEXTS, max_new_tokens=5).predictions == (
        predict(seq2seq, moved, TEXTS, max_new_tokens=5).predictions
    )
    with pytest.raises(WorkerFailure, match="never moved"):
        require_active(seq2seq, lazy, adapter_id="ft:lazy")
