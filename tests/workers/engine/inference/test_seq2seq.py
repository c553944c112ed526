"""Greedy texts of encoder-decoders against transformers' own `generate`."""

import pytest
import torch

from app.contracts.specs import LoraSpec
from tests.support.tiny_seq2seq import PAD_ID, build_seq2seq_base
from workers.engine.base_model import load_base
from workers.engine.inference.seq2seq import SourceBatch, read_source, write_texts
from workers.engine.training.lora import activate

TEXTS = ("My parcel is late.", "The machine is broken. " * 6, "Paris", "I want my money back, please, and soon. " * 2)
NEW_TOKENS = 24


@pytest.fixture(scope="module", params=["t5", "t5-gated", "bart", "mbart", "marian", "pegasus"])
def base(request, tmp_path_factory):
    return load_base(build_seq2seq_base(tmp_path_factory.mktemp("base") / "b", request.param), torch.device("cpu"))


@pytest.fixture(scope="module")
def t5(tmp_path_factory):
    return load_base(build_seq2seq_base(tmp_path_factory.mktemp("base") / "b", "t5"), torch.device("cpu"))


def some_adapter(base):
    adapter = base.linears.new_adapter(LoraSpec(rank=4, alpha=8))
    with torch.no_grad():
        adapter.flat.copy_(torch.randn(adapter.flat.shape, generator=torch.Generator().manual_seed(4)) * 0.2)
    adapter.refresh()
    return adapter


def with_early_ends(base, monkeypatch):
    """Random models hardly ever end: let a token they like to write end their texts, at unequal lengths."""
    monkeypatch.setattr(base, "stop_token_ids", ())
    texts = write_ids(base, None, NEW_TOKENS)
    candidates = sorted({token for ids in texts for token in ids})
    stop = max(candidates, key=lambda token: len({ids.index(token) for ids in texts if token in ids}))
    monkeypatch.setattr(base, "stop_token_ids", (stop,))
    return stop


def write_ids(base, adapter, steps):
    batch = SourceBatch(base, adapter, [read_source(base, text).token_ids for text in TEXTS])
    for _ in range(steps):
        if not batch.is_over:
            batch.step()
    return batch.written


def generate(base, adapter, stop):
    """What transformers writes for each source alone, up to and with the stop token."""
    found = []
    for text in TEXTS:
        ids = torch.tensor([read_source(base, text).token_ids])
        with torch.no_grad(), activate(base.linears, adapter):
            written = base.model.generate(
                ids, do_sample=False, num_beams=1, max_new_tokens=NEW_TOKENS, eos_token_id=stop
            )
        found.append(written[0, 1:].tolist())
    return found


@pytest.mark.parametrize("is_tuned", [False, True])
def test_a_batch_writes_what_transformers_writes_for_each_source_alone(base, monkeypatch, is_tuned):
    adapter = some_adapter(base) if is_tuned else None
    stop = with_early_ends(base, monkeypatch)
    ours = write_ids(base, adapter, NEW_TOKENS)
    assert ours == generate(base, adapter, stop)
    assert len({tuple(ids) for ids in ours}) > 1  # they depend on their sources
    assert is_tuned or len({len(ids) for ids in ours}) > 1  # and left the batch one by one
    if base.model.config.model_type == "marian":
        assert not any(PAD_ID in ids for ids in ours)


def test_texts_come_in_the_order_of_their_inputs_and_say_how_they_ended(t5, monkeypatch):
    with_early_ends(t5, monkeypatch)
    polls = []
    together = write_texts(t5, None, TEXTS, max_new_tokens=NEW_TOKENS, poll=lambda: polls.append(1))
    alone = [write_texts(t5, None, [text], max_new_tokens=NEW_TOKENS)[0] for text in TEXTS]
    assert together == alone
    assert len(polls) == max(text.tokens for text in together)
    assert "stop" in {text.finish_reason for text in together}
    ended = next(place for place, text in enumerate(together) if text.finish_reason == "stop" and text.tokens > 1)
    room = together[ended].tokens - 1
    (cut,) = write_texts(t5, None, [TEXTS[ended]], max_new_tokens=room)
    assert (cut.finish_reason, cut.tokens) == ("length", room)


def test_more_inputs_than_one_batch_holds_are_all_written(t5):
    texts = [f"parcel {number}" for number in range(19)]
    written = write_texts(t5, None, texts, max_new_tokens=3)
    assert len(written) == 19
    assert written[18] == write_texts(t5, None, texts[18:], max_new_tokens=3)[0]


def test_a_source_longer_than_the_context_is_cut_and_says_so(t5):
    source = read_source(t5, "word " * 400)
    assert source.is_truncated
    assert len(source.token_ids) == t5.ref.context_length
    assert write_texts(t5, None, [source], max_new_tokens=400)[0].tokens <= t5.ref.context_length
