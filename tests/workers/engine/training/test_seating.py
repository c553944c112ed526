"""Runs that share a resident base: each ends as it would alone, whatever becomes of the others."""

import hashlib
from pathlib import Path

import pytest
import torch

from app.contracts.specs import LoraSpec
from tests.workers.engine.conftest import train_spec
from workers.engine.engine import Engine, StopSignal
from workers.engine.training import loop, memory
from workers.engine.training.loop import train
from workers.engine.training.seating import Seating

# Unlike in everything that could leak from one to another: seed, dropout, rank, rows, micro-batches, variant.
SPECS = {
    "a": {"seed": 7},
    "b": {"seed": 8, "rows": 9, "token_budget": 60, "lora": LoraSpec(rank=8, alpha=8, dropout=0.3)},
    "c": {"seed": 9, "n_epochs": 3, "valid": 5, "valid_every_steps": 2},
    "d": {"seed": 7, "rows": 16, "lora": LoraSpec(rank=2, alpha=4, dropout=0.1, variant="dora")},
}


def spec_of(tiny, folder, name, **changes):
    return train_spec(tiny.ref, folder / name, run_id=name, **(SPECS[name] | changes))


@pytest.fixture(scope="module")
def alone(tiny, tmp_path_factory) -> dict[str, dict[int, tuple]]:
    """Of each run by itself: figures by step, and under 0 the hash of its adapter."""
    found = {}
    for name in SPECS:
        reports = []
        train(tiny, spec_of(tiny, tmp_path_factory.mktemp("alone"), name), reports.append, lambda: None)
        found[name] = outcome(reports, name)
    return found


def outcome(reports, name):
    mine = [report for report in reports if report.run_id == name]
    steps = {m.step: (m.train_loss, m.grad_norm, m.valid_loss, m.full_valid_loss) for m in mine if m.kind == "metric"}
    (finished,) = [report for report in mine if report.kind == "finished"]
    return steps | {0: (finished.adapter_sha256,)}


class Table:
    """Seats on the tiny base, with all they reported."""

    def __init__(self, tiny):
        self.tiny = tiny
        self.reports = []
        self.seating = Seating(self.reports.append)
        self.wishes = {}

    def join(self, spec):
        name = spec.run_id
        wish = StopSignal()
        self.wishes[name] = wish

        def poll():
            self.seating.see_to_wishes()
            return wish()

        self.seating.join(self.tiny, spec, wish, poll)

    def turns(self, count=10_000):
        for _ in range(count):
            if not self.seating.is_taken:
                return
            self.seating.take_turn()

    def kinds(self, name):
        return [report.kind for report in self.reports if report.run_id == name]

    def last(self, name):
        return [report for report in self.reports if report.run_id == name][-1]


@pytest.fixture
def table(tiny):
    return Table(tiny)


@pytest.mark.parametrize("names", ["ab", "abcd"])
def test_runs_that_share_a_base_end_as_each_alone_to_the_bit(tiny, tmp_path, alone, table, names):
    for name in names:
        table.join(spec_of(tiny, tmp_path, name))
    table.turns()
    assert {name: outcome(table.reports, name) for name in names} == {name: alone[name] for name in names}


def test_a_run_that_comes_in_the_middle_changes_nobody_s_result(tiny, tmp_path, alone, table):
    table.join(spec_of(tiny, tmp_path, "a"))
    table.turns(3)
    table.join(spec_of(tiny, tmp_path, "b"))
    table.turns(4)
    table.join(spec_of(tiny, tmp_path, "c"))
    table.turns()
    assert {name: outcome(table.reports, name) for name in "abc"} == {name: alone[name] for name in "abc"}


def test_one_that_is_cancelled_leaves_with_a_checkpoint_and_the_others_go_on(tiny, tmp_path, alone, table):
    for name in "abc":
        table.join(spec_of(tiny, tmp_path, name, **({"resume_checkpoint_seconds": 1000} if name == "a" else {})))
    table.turns(4)
    table.wishes["a"].reason = "cancel"
    table.turns()
    assert table.kinds("a")[-2:] == ["checkpoint", "stopped"]
    assert table.last("a").reason == "cancel"
    assert {name: outcome(table.reports, name) for name in "bc"} == {name: alone[name] for name in "bc"}


def test_one_is_let_go_while_another_has_a_long_turn(tiny, tmp_path, table):
    """A stop is heard within a micro-batch of whoever is at work: here of one that still encodes."""
    table.join(spec_of(tiny, tmp_path, "a"))
    table.turns(2)
    table.wishes["a"].reason = "preempt"
    table.join(spec_of(tiny, tmp_path, "b"))
    assert table.last("a").kind == "stopped"
    assert table.kinds("b")[-1] == "encoded"
    assert table.reports.index(table.last("a")) < table.reports.index(table.last("b"))


def test_one_that_was_preempted_goes_on_beside_others_with_the_same_result(tiny, tmp_path, alone, table):
    table.join(spec_of(tiny, tmp_path, "a"))
    table.join(spec_of(tiny, tmp_path, "b"))
    table.turns(5)
    table.wishes["a"].reason = "preempt"
    table.turns(1)
    table.join(spec_of(tiny, tmp_path, "a", resume_from=str(tmp_path / "a" / "out" / "checkpoints")))
    table.turns()
    assert {name: outcome(table.reports, name) for name in "ab"} == {name: alone[name] for name in "ab"}


def test_one_whose_numbers_diverge_fails_and_the_others_go_on(tiny, tmp_path, alone, table):
    wild = {"learning_rate": 1e30, "max_grad_norm": 1e30}
    table.join(spec_of(tiny, tmp_path, "a", optimizer=wild))
    table.join(spec_of(tiny, tmp_path, "b"))
    table.turns()
    assert table.last("a").error.code == "loss_diverged"
    assert outcome(table.reports, "b") == alone["b"]


def test_one_whose_turn_breaks_down_fails_and_the_others_go_on(tiny, tmp_path, alone, table, monkeypatch):
    break_at(monkeypatch, "a", 2, RuntimeError("a bug"))
    table.join(spec_of(tiny, tmp_path, "a"))
    table.join(spec_of(tiny, tmp_path, "b"))
    table.turns()
    assert (table.last("a").error.kind, table.last("a").error.code) == ("fatal", "engine_error")
    assert outcome(table.reports, "b") == alone["b"]


def test_rows_that_cannot_be_trained_end_their_own_run_only(tiny, tmp_path, alone):
    reports = []
    engine = Engine(reports.append, device=torch.device("cpu"), resident=tiny)
    engine.begin(spec_of(tiny, tmp_path, "b"), StopSignal())
    bad = spec_of(tiny, tmp_path, "a")
    Path(bad.train_rows).write_text("{}\n")
    engine.begin(bad.model_copy(update={"train_rows_sha256": hashlib.sha256(b"{}\n").hexdigest()}), StopSignal())
    assert [report.kind for report in reports if report.run_id == "a"][-1] == "failed"
    while engine.seating.is_taken:
        engine.seating.take_turn()
    assert outcome(reports, "b") == alone["b"]


@pytest.mark.parametrize("at", ["a", "b", "c"])
def test_when_memory_runs_out_the_last_to_come_leaves_and_the_rest_end_as_alone(tiny, tmp_path, alone, table, at):
    with pytest.MonkeyPatch.context() as patch:
        break_at(patch, at, 1, MemoryError(), times=1)
        for name in "abc":
            table.join(spec_of(tiny, tmp_path, name))
        table.turns()
    assert (table.last("c").kind, table.last("c").reason) == ("stopped", "crowded")
    assert {name: outcome(table.reports, name) for name in "ab"} == {name: alone[name] for name in "ab"}
    table.join(spec_of(tiny, tmp_path, "c", resume_from=str(tmp_path / "c" / "out" / "checkpoints")))
    table.turns()
    assert outcome(table.reports, "c") == alone["c"]


def test_one_that_runs_out_of_memory_in_its_update_leaves_and_repeats_it_later(tiny, tmp_path, alone, table):
    with pytest.MonkeyPatch.context() as patch:
        update = torch.optim.AdamW.step
        calls = []

        def step(self, *arguments):
            result = update(self, *arguments)
            calls.append(self)
            if len(calls) == 5:  # the third update of `a`: it has changed the weights already
                raise MemoryError
            return result

        patch.setattr(torch.optim.AdamW, "step", step)
        table.join(spec_of(tiny, tmp_path, "a"))
        table.join(spec_of(tiny, tmp_path, "b"))
        table.turns()
    (left,) = [name for name in "ab" if table.last(name).kind == "stopped"]
    assert table.last(left).reason == "crowded"
    table.join(spec_of(tiny, tmp_path, left, resume_from=str(tmp_path / left / "out" / "checkpoints")))
    table.turns()
    assert {name: outcome(table.reports, name) for name in "ab"} == {name: alone[name] for name in "ab"}


def test_memory_that_runs_out_for_one_alone_is_the_owner_s_to_mend(tiny, tmp_path, table, monkeypatch):
    break_at(monkeypatch, "a", 1, MemoryError())
    table.join(spec_of(tiny, tmp_path, "a"))
    table.turns()
    assert (table.last("a").error.kind, table.last("a").error.code) == ("usage", "out_of_memory")


def test_a_run_without_room_beside_the_others_is_turned_away_before_it_takes_memory(tiny, tmp_path, table, monkeypatch):
    table.join(spec_of(tiny, tmp_path, "a"))
    taken = table.seating.places[0].seat.memory
    monkeypatch.setattr(memory, "memory_bytes", lambda _device: taken.total_bytes + taken.trained_bytes - 1)
    table.join(train_spec(tiny.ref, tmp_path / "b", run_id="b"))
    assert (table.last("b").kind, table.last("b").reason, table.last("b").step) == ("stopped", "crowded", 0)
    assert table.kinds("a")[-1] == "encoded"


def test_turns_go_by_tokens_and_one_that_comes_late_does_not_catch_up(tiny, tmp_path, table):
    table.join(spec_of(tiny, tmp_path, "a", n_epochs=20))
    table.turns(10)
    table.join(spec_of(tiny, tmp_path, "b", n_epochs=20))
    table.turns(2)
    came = {place.seat.spec.run_id: place.seat.trained_tokens for place in table.seating.places}
    table.turns(20)
    gained = {p.seat.spec.run_id: p.seat.trained_tokens - came[p.seat.spec.run_id] for p in table.seating.places}
    assert gained["a"] == pytest.approx(gained["b"], rel=0.3)
    assert min(gained.values()) > 0


def break_at(patch, name, step, error, times=1000):
    """Raise when the gradients of a run's step are to be made."""
    take_step, left = loop.take_step, [times]

    def broken(resident, seat):
        if seat.spec.run_id == name and seat.step == step and left[0] > 0:
            left[0] -= 1
            raise error
        take_step(resident, seat)

    patch.setattr(loop, "take_step", broken)
