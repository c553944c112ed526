"""The memory of a run: estimated before it starts, refused in words where the device has less."""

import pytest
import torch

from app.contracts.errors import WorkerFailure
from tests.workers.engine.conftest import train_spec
from workers.engine.training import memory, rehearsal
from workers.engine.training.loop import train
from workers.engine.training.opening import open_seat


def device_of(monkeypatch, size):
    monkeypatch.setattr(memory, "memory_bytes", lambda _device: int(size))


def run(resident, spec):
    reports = []
    train(resident, spec, reports.append, lambda: None)
    return reports


def seat_of(resident, spec):
    return open_seat(resident, spec, lambda _report: None, lambda: None)


def test_the_first_events_say_what_memory_the_run_takes(tiny, tmp_path):
    encoded = next(report for report in run(tiny, train_spec(tiny.ref, tmp_path)) if report.kind == "encoded")
    assert any(level == "info" and "Training takes about" in sentence for level, sentence in encoded.notes)


def test_a_run_that_cannot_fit_is_refused_with_figures_before_memory_is_taken(tiny, tmp_path, monkeypatch):
    spec = train_spec(tiny.ref, tmp_path)
    needed = memory.estimate(tiny, spec, token_budget=150, lengths=[100])
    device_of(monkeypatch, needed.base_bytes)
    monkeypatch.setattr(tiny.linears, "new_adapter", None)
    with pytest.raises(WorkerFailure) as failure:
        run(tiny, spec)
    assert failure.value.error.code == "does_not_fit"
    assert "GB" in failure.value.error.message


def test_more_tokens_longer_rows_a_higher_rank_or_all_weights_take_more_memory(tiny, tmp_path):
    spec = train_spec(tiny.ref, tmp_path)
    small = memory.estimate(tiny, spec, token_budget=256, lengths=[64])
    assert memory.estimate(tiny, spec, token_budget=512, lengths=[64]).total_bytes > small.total_bytes
    assert memory.estimate(tiny, spec, token_budget=256, lengths=[512]).total_bytes > small.total_bytes
    wider = spec.model_copy(update={"lora": spec.lora.model_copy(update={"rank": 64})})
    assert memory.estimate(tiny, wider, token_budget=256, lengths=[64]).total_bytes > small.total_bytes
    whole = spec.model_copy(update={"tuning": "full"})
    assert memory.estimate(tiny, whole, token_budget=256, lengths=[64]).total_bytes > small.total_bytes


def test_what_is_trained_is_counted_with_gradient_optimiser_and_compute_copy(tiny, tmp_path):
    spec = train_spec(tiny.ref, tmp_path)
    seat = seat_of(tiny, spec)
    moments = 2 * seat.adapter.flat.numel() * 4
    copies = sum(
        t.numel() * t.element_size() for t in (*seat.adapter.compute_a.values(), *seat.adapter.compute_b.values())
    )
    held = seat.adapter.flat.numel() * 4 + seat.adapter.gradient.numel() * 4 + moments + copies
    assert memory.estimate(tiny, spec, token_budget=1, lengths=[1]).trained_bytes == held


def test_a_default_micro_batch_shrinks_to_what_fits_and_a_wished_one_is_refused(tiny, tmp_path, monkeypatch):
    spec = train_spec(tiny.ref, tmp_path, token_budget=None)
    whole = memory.plan(tiny, spec, lengths=[100])
    device_of(monkeypatch, whole.total_bytes - 1)
    assert memory.plan(tiny, spec, lengths=[100]).token_budget == whole.token_budget - 256
    wished = spec.model_copy(update={"token_budget": whole.token_budget})
    with pytest.raises(WorkerFailure, match=f"With a token budget of {whole.token_budget - 256} it fits"):
        memory.plan(tiny, wished, lengths=[100])


def test_rows_too_long_for_the_device_are_named_with_the_length_that_fits(tiny, tmp_path, monkeypatch):
    spec = train_spec(tiny.ref, tmp_path)
    one = memory.estimate(tiny, spec, token_budget=150, lengths=[5000])
    device_of(monkeypatch, one.total_bytes - 1)
    with pytest.raises(WorkerFailure, match="Rows of at most 4864 tokens"):
        memory.plan(tiny, spec, lengths=[5000])


def test_where_memory_is_tight_the_longest_rows_are_tried_first_and_change_nothing(tiny, tmp_path, monkeypatch):
    spec = train_spec(tiny.ref, tmp_path / "loose")
    loose = next(report for report in run(tiny, spec) if report.kind == "finished")
    monkeypatch.setattr(memory, "_TIGHT_SHARE", 0.0)
    tight = next(r for r in run(tiny, train_spec(tiny.ref, tmp_path / "tight")) if r.kind == "finished")
    assert tight.adapter_sha256 == loose.adapter_sha256


def test_the_trial_takes_the_longest_rows_that_a_micro_batch_holds(tiny, tmp_path, monkeypatch):
    seat = seat_of(tiny, train_spec(tiny.ref, tmp_path))
    packed = []
    pack = type(seat.recipe).pack
    monkeypatch.setattr(
        type(seat.recipe), "pack", lambda self, rows, budget: packed.append(rows) or pack(self, rows, budget)
    )
    rehearsal.rehearse(tiny, seat)
    (rows,) = packed
    longest = sorted((row.tokens for row in seat.rows), reverse=True)
    assert [row.tokens for row in rows] == longest[: len(rows)]
    assert sum(row.tokens for row in rows) <= seat.token_budget < sum(longest[: len(rows) + 1])
    assert not seat.adapter.gradient.any()


def test_a_run_that_runs_out_of_memory_in_the_trial_has_taken_no_step(tiny, tmp_path, monkeypatch):
    def give_out(_loss):
        raise MemoryError

    monkeypatch.setattr(memory, "_TIGHT_SHARE", 0.0)
    monkeypatch.setattr(torch.autograd, "backward", give_out)
    reports = []
    with pytest.raises(MemoryError):
        train(tiny, train_spec(tiny.ref, tmp_path), reports.append, lambda: None)
    assert not [report for report in reports if report.kind in {"metric", "checkpoint"}]
