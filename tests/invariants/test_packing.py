"""A row that is packed with others is computed as if it were alone, on every architecture that is accepted."""

import pytest
import torch
from transformers import AutoModel, AutoModelForCausalLM

from app.bases.kinds import KIND_OF
from app.contracts.errors import WorkerFailure
from app.contracts.specs import LoraSpec
from tests.invariants.recipe_runs import encode
from tests.support.tiny_decoders import build_tiny_decoder
from tests.support.tiny_encoders import build_tiny_encoder
from tests.workers.engine.conftest import ticket_rows
from workers.engine.base_model import ENCODERS, load_base
from workers.engine.recipes.chat import encode_rows
from workers.engine.training.attention import packed
from workers.engine.training.batches import pack
from workers.engine.training.lora import activate
from workers.engine.training.loss import batch_loss

CPU = torch.device("cpu")
LENGTHS = (40, 1, 110, 7)
# Refused by name, whatever their size: a factor on the logits, a window that moves, a bias over the vocabulary.
REFUSED = {"gemma2": "softcapping", "phi": "bias in the output layer", "modernbert": "sliding window"}
DECODERS = sorted(kind for kind, family in KIND_OF.items() if family == "decoder" and kind not in REFUSED)


def random_rows(vocab_size: int) -> torch.Tensor:
    """Token ids of rows of LENGTHS, end to end."""
    return torch.randint(4, vocab_size, (sum(LENGTHS),), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def hidden_of_packed_rows(resident, ids: torch.Tensor) -> torch.Tensor:
    positions = torch.cat([torch.arange(length) for length in LENGTHS])
    with packed(LENGTHS, resident.device), activate(resident.linears, None):
        return resident.backbone(ids[None], positions[None])[0]


@pytest.mark.parametrize("kind", DECODERS)
def test_the_logits_of_packed_rows_are_those_the_model_itself_gives_each_row_alone(kind, tmp_path):
    ref = build_tiny_decoder(tmp_path, kind)
    resident = load_base(ref, CPU)
    own = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32, attn_implementation="eager")
    ids = random_rows(resident.vocab_size)
    together = torch.nn.functional.linear(hidden_of_packed_rows(resident, ids), resident.head_weight)
    for part, row in zip(together.split(LENGTHS), ids.split(LENGTHS), strict=True):
        with torch.no_grad():
            alone = own(row[None]).logits[0]
        torch.testing.assert_close(part, alone, rtol=1e-4, atol=1e-4)
        assert alone.std() > 0.1


@pytest.mark.parametrize("kind", sorted(ENCODERS - REFUSED.keys()))
def test_the_hidden_states_of_rows_packed_on_an_encoder_are_those_of_each_row_alone(kind, tmp_path):
    resident = load_base(build_tiny_encoder(tmp_path, kind=kind), CPU)
    own = AutoModel.from_pretrained(tmp_path, dtype=torch.float32, attn_implementation="eager")
    ids = random_rows(resident.vocab_size)
    for part, row in zip(hidden_of_packed_rows(resident, ids).split(LENGTHS), ids.split(LENGTHS), strict=True):
        with torch.no_grad():
            alone = own(row[None]).last_hidden_state[0]
        torch.testing.assert_close(part, alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("kind", "reason"), REFUSED.items())
def test_an_architecture_that_packed_rows_would_compute_wrongly_is_refused_by_name(kind, reason, tmp_path):
    build = build_tiny_encoder if kind in ENCODERS else build_tiny_decoder
    ref = build(tmp_path, kind=kind)
    with pytest.raises(WorkerFailure, match=reason) as failure:
        load_base(ref, CPU)
    assert failure.value.error.code == "unsupported_base"


@pytest.mark.parametrize("kind", DECODERS)
def test_our_loss_on_one_row_is_the_models_own_loss(kind, tmp_path):
    resident = load_base(build_tiny_decoder(tmp_path, kind), CPU)
    own = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32, attn_implementation="eager")
    rows = encode_rows(resident, ticket_rows(5), max_length=256).rows
    (batch,) = pack([rows[4]], 1000)
    ids = torch.from_numpy(rows[4].input_ids.astype("int64"))
    labels = torch.where(torch.from_numpy(rows[4].is_supervised), ids, -100)
    with torch.no_grad():
        found = batch_loss(resident, batch)
        theirs = own(ids[None], labels=labels[None]).loss
    torch.testing.assert_close(found.nll_sum / found.count, theirs, rtol=1e-4, atol=1e-5)


def test_the_losses_of_a_packed_batch_are_those_of_its_rows_alone(job, resident):
    recipe, rows = encode(job, resident, job.make_rows(9))
    adapter = resident.linears.new_adapter(LoraSpec(rank=4), recipe.vectors)
    with torch.no_grad():
        adapter.flat.copy_(torch.randn(adapter.flat.shape, generator=torch.Generator().manual_seed(2)) * 0.1)
    adapter.refresh()

    def loss(batch):
        with torch.no_grad(), activate(resident.linears, adapter):
            return recipe.loss(batch, adapter)

    (together,) = recipe.pack(rows, 100_000)
    alone = [loss(batch) for row in together.rows for batch in recipe.pack([row], 1)]
    found = loss(together)
    assert len(alone) == len(rows) == 9
    assert found.count == sum(one.count for one in alone)
    torch.testing.assert_close(found.nll_sum, sum(one.nll_sum for one in alone), rtol=1e-5, atol=1e-5)
    assert found.correct == sum(one.correct for one in alone)
    if found.outputs is not None:
        torch.testing.assert_close(found.outputs, torch.cat([one.outputs for one in alone]), rtol=1e-4, atol=1e-4)
