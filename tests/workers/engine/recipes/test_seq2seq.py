"""Encoder-decoders under the summarization recipe: packed rows against the models' own forward passes."""

import peft
import pytest
import torch
from transformers import AutoModelForSeq2SeqLM

from app.contracts.errors import WorkerFailure
from app.contracts.rows import TextPair
from app.contracts.specs import LoraSpec
from tests.support.tiny_seq2seq import ARCHITECTURES, BEGIN_ID, END_ID, PAD_ID, build_seq2seq_base
from workers.engine.base_model import load_base, refuse_unsupported
from workers.engine.recipes.open import open_recipe
from workers.engine.recipes.pairs import encode_source, frame_of
from workers.engine.recipes.summarization import pair_hidden
from workers.engine.recipes.templates import decode
from workers.engine.training.adapter_files import encode_adapter
from workers.engine.training.full import FullWeights, base_parameters
from workers.engine.training.lora import activate
from workers.engine.training.synced_files import write_file

PAIRS = tuple(
    TextPair(line=i + 1, source=f"{i}: " + "The machine is broken. " * (i % 5), target="repair " * (1 + i % 3) + str(i))
    for i in range(9)
)


@pytest.fixture(scope="module", params=ARCHITECTURES)
def base(request, tmp_path_factory):
    return load_base(build_seq2seq_base(tmp_path_factory.mktemp("base") / "b", request.param), torch.device("cpu"))


@pytest.fixture(scope="module")
def t5(tmp_path_factory):
    return load_base(build_seq2seq_base(tmp_path_factory.mktemp("base") / "b", "t5"), torch.device("cpu"))


@pytest.fixture(scope="module")
def bart(tmp_path_factory):
    return load_base(build_seq2seq_base(tmp_path_factory.mktemp("base") / "b", "bart"), torch.device("cpu"))


def adapter_with_weights(base, dropout=0.0):
    adapter = base.linears.new_adapter(LoraSpec(rank=4, alpha=8, dropout=dropout))
    adapter.initialise(torch.Generator().manual_seed(3))
    with torch.no_grad():
        adapter.flat.add_(torch.randn(adapter.flat.shape, generator=torch.Generator().manual_seed(4)) * 0.05)
    adapter.refresh()
    return adapter


def recipe_and_rows(base, pairs=PAIRS, max_length=256):
    recipe = open_recipe(base, "summarization")
    return recipe, recipe.encode(pairs, max_length=max_length, on_progress=lambda _done: None)


def as_tensors(row):
    return (torch.from_numpy(ids.astype("int64"))[None] for ids in (row.source_ids, row.target_ids))


def gradient(base, adapter, rows, token_budget):
    recipe, _ = recipe_and_rows(base)
    packs = recipe.pack(rows, token_budget)
    supervised = sum(batch.count for batch in packs)
    adapter.zero_grad()
    total = 0.0
    for batch in packs:
        with activate(base.linears, adapter):
            loss = recipe.loss(batch, adapter)
        torch.autograd.backward(loss.nll_sum / supervised)
        total += loss.nll_sum.item() / supervised
    return adapter.gradient.clone(), total, len(packs)


@torch.no_grad()
def test_a_packed_row_gives_the_hidden_states_it_gives_alone(base):
    recipe, encoded = recipe_and_rows(base)
    (together,) = recipe.pack(encoded.rows, 10_000)
    parts = pair_hidden(base, together).split(together.target_lengths)
    for row, part in zip(together.rows, parts, strict=True):
        (alone,) = recipe.pack([row], 10_000)
        torch.testing.assert_close(part, pair_hidden(base, alone), rtol=1e-4, atol=1e-4)


def test_our_loss_on_every_row_of_a_pack_is_the_models_own_loss_on_it(base):
    adapter = adapter_with_weights(base)
    recipe, encoded = recipe_and_rows(base)
    (batch,) = recipe.pack(encoded.rows, 10_000)
    total = 0.0
    with torch.no_grad(), activate(base.linears, adapter):
        for row in encoded.rows:
            source, target = as_tensors(row)
            total += base.model(input_ids=source, labels=target).loss.item() * row.supervised_tokens
        ours = recipe.loss(batch, adapter)
    assert ours.count == encoded.supervised_tokens
    assert ours.nll_sum.item() == pytest.approx(total, rel=1e-5)


def test_the_gradient_is_the_same_for_one_micro_batch_and_for_many(base):
    adapter = adapter_with_weights(base)
    rows = recipe_and_rows(base)[1].rows
    whole, whole_loss, one = gradient(base, adapter, rows, 10_000)
    split, split_loss, many = gradient(base, adapter, rows, 1)
    assert (one, many) == (1, len(rows))
    assert abs(whole_loss - split_loss) < 1e-5
    assert (whole - split).norm() < 1e-4 * whole.norm()


def test_the_gradient_of_every_weight_is_that_of_plain_autograd_on_the_models_own_losses(base):
    weights = FullWeights(base.linears, {})
    recipe, encoded = recipe_and_rows(base)
    (batch,) = recipe.pack(encoded.rows, 10_000)
    with activate(base.linears, weights):
        torch.autograd.backward(recipe.loss(batch, weights).nll_sum)
    model = AutoModelForSeq2SeqLM.from_pretrained(base.ref.path, dtype=torch.float32)
    for row in encoded.rows:
        source, target = as_tensors(row)
        torch.autograd.backward(model(input_ids=source, labels=target).loss * row.supervised_tokens)
    theirs = dict(model.named_parameters())
    assert theirs.keys() == base_parameters(base.linears).keys()
    offset = 0
    for name, parameter in theirs.items():
        ours = weights.gradient[offset : offset + parameter.numel()].view(parameter.shape)
        offset += parameter.numel()
        wanted = torch.zeros_like(ours) if parameter.grad is None else parameter.grad  # sinusoids learn nothing
        torch.testing.assert_close(ours, wanted, rtol=1e-2, atol=2e-4, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("variant", ["rslora", "dora"])
def test_other_variants_of_an_adapter_give_the_models_own_loss_too(bart, variant):
    adapter = bart.linears.new_adapter(LoraSpec(variant=variant, rank=4, alpha=8))
    adapter.initialise(torch.Generator().manual_seed(3))
    with torch.no_grad():
        adapter.flat.add_(torch.randn(adapter.flat.shape, generator=torch.Generator().manual_seed(4)) * 0.05)
    adapter.refresh()
    recipe, encoded = recipe_and_rows(bart)
    (batch,) = recipe.pack(encoded.rows[:1], 10_000)
    source, target = as_tensors(encoded.rows[0])
    with torch.no_grad(), activate(bart.linears, adapter):
        theirs = bart.model(input_ids=source, labels=target).loss.item()
        assert recipe.loss(batch, adapter).nll_sum.item() == pytest.approx(theirs * batch.count, rel=1e-5)


@torch.no_grad()
def test_every_linear_layer_but_the_head_is_adapted_and_the_embeddings_stay(base):
    names = {name.rsplit(".", 1)[-1] for name in base.linears.layers}
    if base.model.config.model_type in {"t5", "mt5"}:
        assert names >= {"q", "k", "v", "o", "wo"}
        assert len(base.linears.layers) == 2 * (4 * 3) + 2 * 2 * (3 if "wi_1" in names else 2)
    else:
        assert names == {"q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"}
        assert len(base.linears.layers) == 2 * (4 * 3) + 2 * 2 * 2
    assert not any(parameter.requires_grad for parameter in base.model.parameters())


# peft 0.21 asks transformers 5 for a property it deprecates
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("architecture", ["t5-gated", "bart"])
def test_peft_loads_the_adapter_and_gives_equal_logits(architecture, tmp_path):
    ref = build_seq2seq_base(tmp_path / "base", architecture)
    base = load_base(ref, torch.device("cpu"))
    adapter = adapter_with_weights(base)
    (tmp_path / "adapter").mkdir()
    for name, data in encode_adapter(adapter, ref.id, base.family).items():
        write_file(tmp_path / "adapter" / name, data)
    source, target = as_tensors(recipe_and_rows(base)[1].rows[3])
    plain = AutoModelForSeq2SeqLM.from_pretrained(ref.path, dtype=torch.float32)
    theirs = peft.PeftModel.from_pretrained(plain, tmp_path / "adapter")
    assert theirs.peft_config["default"].task_type == "SEQ_2_SEQ_LM"
    with torch.no_grad(), activate(base.linears, adapter):
        ours = base.model(input_ids=source, labels=target).logits
        torch.testing.assert_close(ours, theirs(input_ids=source, labels=target).logits, rtol=1e-4, atol=1e-4)
        with theirs.disable_adapter():
            assert not torch.allclose(ours, theirs(input_ids=source, labels=target).logits, atol=1e-3)


def test_source_and_target_have_the_tokenizers_own_form(t5, bart):
    pair = (TextPair(line=1, source="a late parcel", target="late"),)
    row = recipe_and_rows(t5, pair)[1].rows[0]
    assert decode(t5.tokenizer, row.source_ids.tolist()) == "a late parcel</s>"
    assert decode(t5.tokenizer, row.target_ids.tolist()) == "late</s>"
    row = recipe_and_rows(bart, pair)[1].rows[0]
    assert decode(bart.tokenizer, row.source_ids.tolist()) == "<s>a late parcel</s>"
    assert decode(bart.tokenizer, row.target_ids.tolist()) == "<s>late</s>"


def test_the_decoder_begins_as_its_family_wants(t5, bart):
    assert (frame_of(t5).start, frame_of(t5).forced, frame_of(t5).end) == (PAD_ID, None, END_ID)
    assert (frame_of(bart).start, frame_of(bart).forced) == (END_ID, BEGIN_ID)


def test_a_long_source_loses_its_end_and_is_counted(bart):
    pair = (TextPair(line=1, source="first " + "word " * 100, target="the answer"),)
    encoded = recipe_and_rows(bart, pair, max_length=40)[1]
    assert encoded.truncated == 1
    text = decode(bart.tokenizer, encoded.rows[0].source_ids.tolist())
    assert len(encoded.rows[0].source_ids) == 40
    assert text.startswith("<s>first word word")
    assert text.endswith("</s>")
    assert decode(bart.tokenizer, encoded.rows[0].target_ids.tolist()) == "<s>the answer</s>"
    assert encode_source(bart, "short", 40)[1] is False


def test_a_target_is_never_cut_and_what_cannot_be_learned_is_dropped_with_its_reason(t5):
    pairs = (
        TextPair(line=1, source="a", target="word " * 100),
        TextPair(line=2, source="a", target=""),
        TextPair(line=3, source="a", target="one</s>two"),
        TextPair(line=4, source="a", target="kept"),
    )
    encoded = recipe_and_rows(t5, pairs, max_length=40)[1]
    assert [row.line for row in encoded.rows] == [4]
    assert [line for line, _ in encoded.dropped] == [1, 2, 3]
    assert [reason.split(":")[0] for _, reason in encoded.dropped] == [
        "too long",
        "the target is empty",
        "the target contains the end token",
    ]


def test_an_encoder_decoder_we_do_not_compute_is_refused_by_name(t5):
    t5.model.config.model_type = "longt5"
    try:
        with pytest.raises(WorkerFailure, match="encoder-decoder architecture 'longt5'") as failure:
            refuse_unsupported(t5.model, t5.ref)
    finally:
        t5.model.config.model_type = "t5"
    assert failure.value.error.code == "unsupported_base"
