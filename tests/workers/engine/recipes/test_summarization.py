"""The summarization recipe on decoders: pairs become the very tokens that chat and completions see."""

import pytest
import torch

from app.contracts.errors import WorkerFailure
from app.contracts.rows import ChatMessage, TextPair
from app.contracts.specs import LoraSpec
from tests.support.tiny_models import build_tiny_base
from workers.engine.base_model import load_base
from workers.engine.recipes.open import open_recipe
from workers.engine.recipes.summarization import chat_rows
from workers.engine.recipes.templates import decode, render_completion_prompt, render_prompt
from workers.engine.training.lora import activate


@pytest.fixture(params=["with a template", "without"])
def base(request, tiny, monkeypatch):
    if request.param == "without":
        monkeypatch.setattr(tiny.tokenizer, "chat_template", None)
    return tiny


def pair(source, target, line=1):
    return TextPair(line=line, source=source, target=target)


def encode(base, pairs, max_length=400):
    return open_recipe(base, "summarization").encode(pairs, max_length=max_length, on_progress=lambda _done: None)


def prompt_of(base, source):
    """What a server makes of a request for this source."""
    if base.tokenizer.chat_template:
        return render_prompt(base.tokenizer, [ChatMessage(role="user", content=source)])
    return render_completion_prompt(base.tokenizer, source + "\n\n")


def test_a_pair_is_the_prompt_a_server_sees_and_the_target_with_its_end(base):
    row = encode(base, [pair("My parcel is late.", "late parcel", line=7)]).rows[0]
    answer = row.input_ids[row.is_supervised].tolist()
    assert row.line == 7
    assert decode(base.tokenizer, answer) == "late parcel<|im_end|>"
    assert row.input_ids.tolist() == [*prompt_of(base, "My parcel is late."), *answer]


def test_a_long_source_loses_its_end_while_the_prompt_around_it_and_the_target_stay(base):
    source = "first " + "word " * 100 + "last"
    whole = encode(base, [pair(source, "the answer")]).rows[0]
    encoded = encode(base, [pair(source, "the answer")], max_length=80)
    row = encoded.rows[0]
    assert (encoded.truncated, row.tokens) == (1, 80)
    assert decode(base.tokenizer, row.input_ids[row.is_supervised].tolist()) == "the answer<|im_end|>"
    cut = decode(base.tokenizer, row.input_ids.tolist())
    frame = decode(base.tokenizer, prompt_of(base, "qzq"))
    opening, closing = frame.split("qzq")
    assert cut.startswith(opening + "first word word")
    assert cut.endswith(closing + "the answer<|im_end|>")
    assert "last" not in cut
    assert set(row.input_ids.tolist()) <= set(whole.input_ids.tolist())


def test_a_target_that_does_not_fit_is_dropped_with_its_reason(base):
    encoded = encode(base, [pair("a", "word " * 100), pair("word " * 100, "kept", line=2)], max_length=80)
    assert [row.line for row in encoded.rows] == [2]
    assert encoded.dropped[0][0] == 1
    assert "too long" in encoded.dropped[0][1]


def test_a_source_that_forges_a_turn_is_dropped(tiny):
    encoded = encode(tiny, [pair("<|im_end|>", "forged")])
    assert not encoded.rows
    assert "control token" in encoded.dropped[0][1]


def test_a_bos_the_tokenizer_writes_stays_on_a_cut_row(tmp_path):
    base = load_base(build_tiny_base(tmp_path / "base", writes_bos=True), torch.device("cpu"))
    base.tokenizer.chat_template = None
    row = encode(base, [pair("word " * 100, "the answer")], max_length=60).rows[0]
    assert row.input_ids[0] == base.tokenizer.bos_token_id
    assert decode(base.tokenizer, row.input_ids.tolist()).endswith("wo\n\nthe answer<|im_end|>")


@torch.no_grad()
def test_the_loss_is_that_of_the_same_conversations_under_the_chat_recipe(tiny):
    pairs = [pair(f"ticket {i}: " + "my parcel is late. " * i, "late " * (1 + i % 3), line=i + 1) for i in range(6)]
    adapter = tiny.linears.new_adapter(LoraSpec(rank=4, alpha=8))
    ours, chat = open_recipe(tiny, "summarization"), open_recipe(tiny, "chat")
    losses = []
    for recipe, rows in ((ours, pairs), (chat, chat_rows(tiny, pairs))):
        encoded = recipe.encode(rows, max_length=400, on_progress=lambda _done: None)
        (batch,) = recipe.pack(encoded.rows, 10_000)
        with activate(tiny.linears, adapter):
            losses.append(recipe.loss(batch, adapter).nll_sum.item())
    assert losses[0] == losses[1] > 0


def test_an_encoder_has_no_summarization(tiny, monkeypatch):
    monkeypatch.setattr(tiny, "family", "encoder")
    with pytest.raises(WorkerFailure, match="decoder, encoder_decoder") as failure:
        open_recipe(tiny, "summarization")
    assert failure.value.error.code == "unsupported_task"
