from tests.workers.engine.conftest import ticket_rows
from workers.engine.recipes.chat import encode_rows
from workers.engine.training import batches


def test_an_epoch_has_every_row_once_in_an_order_of_seed_and_epoch():
    first = batches.epoch_order(50, seed=1, epoch=0)
    assert sorted(first) == list(range(50))
    assert first == batches.epoch_order(50, seed=1, epoch=0)
    assert first != batches.epoch_order(50, seed=1, epoch=1)
    assert first != batches.epoch_order(50, seed=2, epoch=0)


def test_the_steps_of_an_epoch_cover_every_row_once(tiny):
    rows = encode_rows(tiny, ticket_rows(10), max_length=256).rows
    steps = batches.steps_per_epoch(len(rows), 4)
    seen = [row.line for step in range(steps) for row in batches.step_rows(rows, step=step, batch_size=4, seed=0)]
    assert steps == 3
    assert sorted(seen) == [row.line for row in rows]


def test_micro_batches_keep_to_the_budget_and_no_target_crosses_a_row(tiny):
    rows = encode_rows(tiny, ticket_rows(10), max_length=256).rows
    packs = batches.pack(rows, 150)
    assert all(batch.row_tokens <= 150 or len(batch.lengths) == 1 for batch in packs)
    assert sum(batch.row_tokens for batch in packs) == sum(row.tokens for row in rows)
    assert sum(batch.supervised.numel() for batch in packs) == sum(row.supervised_tokens for row in rows)
    for batch in packs:
        start = 0
        for length in batch.lengths:
            assert batch.position_ids[start : start + length].tolist() == list(range(length))
            start += length
        inside = [i for i in batch.supervised.tolist() if i + 1 < start and batch.position_ids[i + 1] != 0]
        targets = dict(zip(batch.supervised.tolist(), batch.targets.tolist(), strict=True))
        assert all(targets[i] == batch.input_ids[i + 1] for i in inside)
