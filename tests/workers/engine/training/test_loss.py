import torch

from app.contracts.specs import LoraSpec
from tests.workers.engine.conftest import ticket_rows
from workers.engine.recipes.chat import encode_rows
from workers.engine.training import batches
from workers.engine.training.lora import activate
from workers.engine.training.loss import batch_loss


def encoded(tiny, count=9):
    return encode_rows(tiny, ticket_rows(count), max_length=256).rows


def adapter_with_weights(tiny, dropout=0.0):
    adapter = tiny.linears.new_adapter(LoraSpec(rank=4, alpha=8, dropout=dropout))
    adapter.initialise(torch.Generator().manual_seed(3))
    with torch.no_grad():
        adapter.flat.add_(torch.randn(adapter.flat.shape, generator=torch.Generator().manual_seed(4)) * 0.05)
    adapter.refresh()
    return adapter


def gradient(tiny, adapter, rows, token_budget):
    packs = batches.pack(rows, token_budget)
    supervised = sum(batch.supervised.numel() for batch in packs)
    adapter.zero_grad()
    total = 0.0
    for batch in packs:
        with activate(tiny.linears, adapter):
            loss = batch_loss(tiny, batch)
        torch.autograd.backward(loss.nll_sum / supervised)
        total += loss.nll_sum.item() / supervised
    return adapter.gradient.clone(), total, len(packs)


def test_the_gradient_is_the_same_for_one_micro_batch_and_for_many_of_unequal_lengths(tiny):
    adapter = adapter_with_weights(tiny)
    rows = encoded(tiny)
    whole, whole_loss, one = gradient(tiny, adapter, rows, 10_000)
    split, split_loss, many = gradient(tiny, adapter, rows, 1)
    assert (one, many) == (1, len(rows))
    assert abs(whole_loss - split_loss) < 1e-5
    assert (whole - split).norm() < 1e-5 * whole.norm()


def test_our_gradient_is_that_of_plain_autograd_on_the_models_own_loss(tiny):
    adapter = adapter_with_weights(tiny)
    row = encoded(tiny)[3]
    ours, _, _ = gradient(tiny, adapter, [row], 10_000)
    a, b = adapter.A["model.layers.0.self_attn.q_proj"], adapter.B["model.layers.0.self_attn.q_proj"]
    layer = tiny.linears.layers["model.layers.0.self_attn.q_proj"]
    a_leaf, b_leaf = a.clone().requires_grad_(True), b.clone().requires_grad_(True)
    hook = layer.register_forward_hook(
        lambda _m, args, y: y.detach() - args[0] @ a.t() @ b.t() * 2 + args[0] @ a_leaf.t() @ b_leaf.t() * 2
    )
    ids = torch.from_numpy(row.input_ids.astype("int64"))
    labels = torch.where(torch.from_numpy(row.is_supervised), ids, -100)
    with activate(tiny.linears, adapter):
        theirs = tiny.model(ids[None], labels=labels[None]).loss
    hook.remove()
    adapter.zero_grad()
    torch.autograd.backward(theirs)
    view_a = adapter.grad_a["model.layers.0.self_attn.q_proj"]
    adapter_size = view_a.numel()
    offset = view_a.storage_offset()
    torch.testing.assert_close(ours[offset : offset + adapter_size].view_as(a), a_leaf.grad, rtol=1e-4, atol=1e-7)
    assert b_leaf.grad is not None


def test_our_loss_is_the_models_own_loss_on_one_row(tiny):
    adapter = adapter_with_weights(tiny)
    row = encoded(tiny)[2]
    ids = torch.from_numpy(row.input_ids.astype("int64"))
    labels = torch.where(torch.from_numpy(row.is_supervised), ids, -100)
    with torch.no_grad(), activate(tiny.linears, adapter):
        theirs = tiny.model(ids[None], labels=labels[None]).loss
        (batch,) = batches.pack([row], 10_000)
        ours = batch_loss(tiny, batch)
    assert ours.count == row.supervised_tokens
    torch.testing.assert_close(ours.nll_sum / ours.count, theirs, rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_a_packed_row_gives_the_same_hidden_states_as_alone(tiny):
    rows = encoded(tiny)
    (batch,) = batches.pack(rows, 10_000)
    from workers.engine.training.attention import packed  # noqa: PLC0415

    with packed(batch.lengths, tiny.device):
        together = tiny.backbone(batch.input_ids[None], batch.position_ids[None])[0]
    order = sorted(rows, key=lambda row: -row.tokens)
    for row, part in zip(order, together.split(batch.lengths), strict=True):
        alone = tiny.model.get_decoder()(torch.from_numpy(row.input_ids[:-1].astype("int64"))[None])
        torch.testing.assert_close(part, alone.last_hidden_state[0], rtol=1e-4, atol=1e-4)


def test_dropout_depends_on_its_key_alone(tiny):
    adapter = adapter_with_weights(tiny, dropout=0.5)
    (batch,) = batches.pack(encoded(tiny), 10_000)

    def nll(key):
        with activate(tiny.linears, adapter, dropout_key=key):
            return batch_loss(tiny, batch).nll_sum.item()

    assert nll((1, 2, 3)) == nll((1, 2, 3))
    assert len({nll((1, 2, 3)), nll((1, 2, 4)), nll(None)}) == 3
