"""A run that is stopped or killed anywhere and goes on ends in the very adapter of an unbroken one."""

import os
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from app.contracts.errors import WorkerFailure
from app.contracts.reports import METRIC_LOG
from app.contracts.rows import ChatRow, LabelledText, Row, Span, TaggedText
from app.contracts.specs import LabelCalibration, TrainSpec
from tests.invariants.recipe_runs import CHAT, QUEUES, TEXT, TOKENS, Crash, RecipeJob, Run, make_spec, run
from tests.support.tiny_models import build_tiny_base
from tests.workers.engine.conftest import chat_row
from workers.engine.base_model import ResidentBase, load_base
from workers.engine.recipes.chat import encode_rows
from workers.engine.training import batches, checkpoint
from workers.engine.training.adapter_files import read_task
from workers.engine.training.loop import train

STEPS = 40
TOKEN_BUDGET = 60


@pytest.fixture(scope="module")
def smallest(tmp_path_factory) -> ResidentBase:
    """One layer: here runs are many and what they compute is of no matter."""
    ref = build_tiny_base(tmp_path_factory.mktemp("bases") / "smallest", hidden_size=16, layers=1)
    return load_base(ref, torch.device("cpu"))


def completions(count: int) -> list[ChatRow]:
    """Rows of 20 to 35 tokens, without a template: quickly encoded."""
    return [
        chat_row(i + 1, f"{i}: " + "my parcel is late. " * (1 + i % 2), QUEUES[i % 4]).model_copy(
            update={"is_completion": True}
        )
        for i in range(count)
    ]


def forty_steps(resident: ResidentBase, folder: Path, **changes: Any) -> TrainSpec:
    """Dropout, packing, two micro-batches a step, two epochs, validations between them, the best epoch as result."""
    fields: dict[str, Any] = {
        "rows": completions(58),
        "valid": completions(3),
        "batch_size": 3,
        "n_epochs": 2,
        "token_budget": TOKEN_BUDGET,
        "valid_every_steps": 7,
        "resume_checkpoint_seconds": 1000,
    }
    return make_spec(CHAT, resident, folder, **fields | changes)


def figures(found: Run) -> dict[int, tuple[Any, ...]]:
    """By step; of a step reported twice (before its validation and after) the last."""
    return {
        m.step: (m.train_loss, m.grad_norm, m.learning_rate, m.trained_tokens, m.valid_loss, m.selection_score)
        for m in found.metrics
    }


def result(found: Run) -> tuple[Any, ...]:
    """What the job's owner gets."""
    done = found.finished
    task = read_task(Path(done.adapter_path))
    return (done.step, done.steps_done, done.adapter_sha256, task, done.trained_tokens, done.train_loss, done.reason)


def go_on(resident: ResidentBase, spec: TrainSpec, found: Run) -> None:
    """Another attempt at the same job, as after a stop or a death, to its end."""
    resumed = spec.model_copy(update={"resume_from": str(Path(spec.output_dir) / "checkpoints")})
    train(resident, resumed, found.reports.append, lambda: None)


@pytest.fixture(scope="module")
def unbroken(smallest, tmp_path_factory) -> Run:
    return run(smallest, forty_steps(smallest, tmp_path_factory.mktemp("unbroken")))


def test_the_forty_steps_have_what_a_resumption_can_lose(smallest, unbroken, tmp_path):
    """Or the tests below would prove less than they say."""
    assert [metric.step for metric in unbroken.metrics] == list(range(1, STEPS + 1))
    assert forty_steps(smallest, tmp_path).lora.dropout > 0
    rows = encode_rows(smallest, completions(58), max_length=256).rows
    steps = [
        [len(b.rows) for b in batches.pack(batches.step_rows(rows, step=s, batch_size=3, seed=7), TOKEN_BUDGET)]
        for s in range(STEPS)
    ]
    whole = [step for step in steps if sum(step) == 3]
    assert len(whole) == STEPS - 2  # the last step of an epoch has one row
    assert sum(step in ([2, 1], [1, 2]) for step in whole) > 30


@pytest.mark.parametrize("stop_after", range(1, STEPS))
def test_a_run_stopped_after_any_of_its_steps_ends_in_the_adapter_of_the_unbroken_one(
    smallest, tmp_path, unbroken, stop_after
):
    found = Run()
    spec = forty_steps(smallest, tmp_path)
    train(smallest, spec, found.reports.append, lambda: "preempt" if len(figures(found)) >= stop_after else None)
    assert [stopped.step for stopped in found.of_kind("stopped")] == [stop_after]
    go_on(smallest, spec, found)
    assert figures(found) == figures(unbroken)
    assert result(found) == result(unbroken)


def test_a_run_stopped_after_every_one_of_its_steps_ends_in_the_adapter_of_the_unbroken_one(
    smallest, tmp_path, unbroken
):
    found = Run()
    spec = forty_steps(smallest, tmp_path)
    for step in range(1, STEPS):
        train(smallest, spec, found.reports.append, lambda step=step: "pause" if len(figures(found)) >= step else None)
        spec = spec.model_copy(update={"resume_from": str(tmp_path / "out" / "checkpoints" / f"step-{step:06d}")})
    go_on(smallest, spec, found)
    assert len(found.of_kind("encoded")) == STEPS
    assert figures(found) == figures(unbroken)
    assert result(found) == result(unbroken)


class Life:
    """A `should_stop` that kills after a number of polls."""

    def __init__(self, polls: int) -> None:
        self.polls = polls

    def __call__(self) -> None:
        self.polls -= 1
        if self.polls < 0:
            raise Crash


@pytest.mark.parametrize("chance", range(6))
def test_a_run_killed_anywhere_between_its_checkpoints_ends_in_the_adapter_of_the_unbroken_one(
    smallest, tmp_path, unbroken, chance
):
    """Once, and once more in the second attempt: in a step, in a validation, before the first checkpoint or after."""
    draw = random.Random(chance)  # noqa: S311 no secret
    found = Run()
    saves_often = chance % 2 == 0
    spec = forty_steps(smallest, tmp_path, resume_checkpoint_seconds=0 if saves_often else 1000)
    for _ in range(2):
        with pytest.raises(Crash):
            train(smallest, spec, found.reports.append, Life(draw.randint(62, 100)))
        spec = spec.model_copy(update={"resume_from": str(tmp_path / "out" / "checkpoints")})
    go_on(smallest, spec, found)
    assert figures(found) == figures(unbroken)
    assert result(found) == result(unbroken)


def test_a_run_of_any_recipe_stopped_and_killed_at_every_step_ends_in_the_adapter_and_head_of_the_unbroken_one(
    job, resident, tmp_path
):
    def spec_in(name: str) -> TrainSpec:
        return make_spec(job, resident, tmp_path / name, valid=6, valid_every_steps=2, resume_checkpoint_seconds=1000)

    whole = run(resident, spec_in("unbroken"))
    found, spec = Run(), spec_in("broken")
    for step in range(1, 6):
        train(resident, spec, found.reports.append, lambda step=step: "pause" if len(figures(found)) >= step else None)
        spec = spec.model_copy(update={"resume_from": str(tmp_path / "broken" / "out" / "checkpoints")})
        with pytest.raises(Crash):
            train(resident, spec, found.reports.append, Life(12 + 6 + 1))  # within the next step
    go_on(resident, spec, found)
    assert figures(found) == figures(whole)
    assert result(found) == result(whole)


@pytest.mark.parametrize("job", [TEXT], ids=lambda job: job.name)
@pytest.mark.parametrize("valid", [0, 6], ids=["selection alone", "beside a validation file"])
def test_a_classifier_stopped_at_any_moment_of_its_last_epoch_carries_the_calibration_of_the_unbroken_one(
    job, resident, tmp_path, valid
):
    """Also within the validation that finds it, after whose beginning the checkpoint was written without."""

    def spec_in(name: str) -> TrainSpec:
        folder = tmp_path / name
        folder.mkdir()
        return make_spec(job, resident, folder, rows=8, valid=valid, selection=9, valid_rows_per_check=4)

    polls: list[int] = []
    whole = Run()
    train(resident, spec_in("unbroken"), whole.reports.append, lambda: polls.append(len(whole.metrics)))
    assert read_task(Path(whole.finished.adapter_path)).calibration is not None
    first = next(place for place, metrics in enumerate(polls) if metrics == 3)
    was_pending = 0
    for lives in range(first, len(polls)):
        found, spec, count = Run(), spec_in(f"stopped-{lives}"), iter(range(lives))
        train(
            resident, spec, found.reports.append, lambda count=count: None if next(count, None) is not None else "pause"
        )
        last = found.of_kind("checkpoint")[-1]
        was_pending += last.step == 4
        assert not last.is_final
        go_on(resident, spec, found)
        assert result(found) == result(whole)
    assert was_pending > 1


@pytest.mark.parametrize("job", [TEXT], ids=lambda job: job.name)
@pytest.mark.parametrize("changes", [{"valid": 6}, {}], ids=["a validation file", "no rows"])
def test_rows_that_are_judged_in_the_end_calibrate_nothing(job, resident, tmp_path, changes):
    found = run(resident, make_spec(job, resident, tmp_path, **changes)).finished
    assert read_task(Path(found.adapter_path)).calibration is None


@pytest.mark.parametrize("job", [TEXT], ids=lambda job: job.name)
def test_a_checkpoint_between_two_epochs_carries_no_calibration_of_other_weights(job, resident, tmp_path):
    found = run(resident, make_spec(job, resident, tmp_path, selection=9, resume_checkpoint_seconds=0))
    checkpoints = Path(found.finished.adapter_path).parent.parent
    stored = {path.name: read_task(path / "adapter").calibration for path in checkpoints.iterdir()}
    assert {name for name, calibration in stored.items() if calibration is not None} == {"step-000003", "step-000006"}
    assert len(stored) > 2


@pytest.mark.parametrize("job", [TEXT], ids=lambda job: job.name)
def test_a_run_that_continues_a_calibrated_adapter_is_calibrated_anew(job, resident, tmp_path):
    def calibration(found: Run) -> LabelCalibration | None:
        return read_task(Path(found.finished.adapter_path)).calibration

    first = run(resident, make_spec(job, resident, tmp_path / "first", selection=9))
    parent = {"id": "first", "path": first.finished.adapter_path, "sha256": first.finished.adapter_sha256}
    second = run(resident, make_spec(job, resident, tmp_path / "second", selection=9, initial_adapter=parent))
    third = run(resident, make_spec(job, resident, tmp_path / "third", initial_adapter=parent))
    assert calibration(first) != calibration(second) is not None
    assert calibration(third) is None


def passing_gain(job: RecipeJob, resident: ResidentBase, folder: Path, **changes: Any) -> TrainSpec:
    """A run whose first epochs are its best: it is validated on what it does not learn."""
    contrary: dict[str, Sequence[Row]] = {
        CHAT.name: [chat_row(i + 1, f"ticket {i}", "something else") for i in range(4)],
        TEXT.name: [LabelledText(line=1, text="ticket 1: delivery", labels=("billing",))],
        TOKENS.name: [TaggedText(line=1, text="ticket 1: repair", spans=(Span(start=0, end=6, label="QUEUE"),))],
    }
    fields: dict[str, Any] = {"valid": contrary[job.name], "n_epochs": 6, "optimizer": {"learning_rate": 0.05}}
    return make_spec(job, resident, folder, **fields | changes)


@pytest.mark.parametrize("job", [CHAT, TEXT, TOKENS], ids=lambda job: job.name)
def test_a_run_ended_early_and_killed_before_it_said_so_ends_with_the_same_result(job, resident, tmp_path):
    def spec_in(name: str) -> TrainSpec:
        early = {"patience": 2}
        return passing_gain(job, resident, tmp_path / name, valid_every_steps=1, early_stopping=early)

    whole = run(resident, spec_in("unbroken"))
    assert whole.finished.ended_early
    found, spec = Run(), spec_in("killed")

    def report(said: Any) -> None:
        if said.kind == "finished":
            raise Crash
        found.reports.append(said)

    with pytest.raises(Crash):
        train(resident, spec, report, lambda: None)
    go_on(resident, spec, found)
    assert result(found) == result(whole)


@pytest.mark.parametrize("job", [CHAT, TEXT, TOKENS], ids=lambda job: job.name)
def test_the_best_checkpoint_goes_with_the_run_to_another_machine(job, resident, tmp_path):
    """Only the last checkpoint is handed over; the best one was an earlier one."""
    whole = run(resident, passing_gain(job, resident, tmp_path / "unbroken"))
    assert whole.finished.step < whole.finished.steps_done - 1
    found, spec = Run(), passing_gain(job, resident, tmp_path / "here")
    last = whole.finished.steps_done - 1
    train(resident, spec, found.reports.append, lambda: "preempt" if len(figures(found)) >= last else None)
    there = passing_gain(job, resident, tmp_path / "there")
    handed_over = Path(there.output_dir) / "checkpoints" / f"step-{last:06d}"
    shutil.copytree(Path(spec.output_dir) / "checkpoints" / handed_over.name, handed_over)
    go_on(resident, there, found)
    assert result(found) == result(whole)
    assert Path(found.finished.adapter_path).is_dir()


class Interruptions:
    """Lets `os.fsync` and the renames of paths succeed a number of times, then kills."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, lives: int) -> None:
        self.lives = lives
        for owner, name in ((os, "fsync"), (Path, "rename"), (shutil, "rmtree")):
            monkeypatch.setattr(owner, name, self._mortal(getattr(owner, name)))

    def _mortal(self, original: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            if self.lives == 0:
                raise Crash
            self.lives -= 1
            return original(*arguments, **options)

        return call


def test_a_kill_at_any_point_of_writing_a_checkpoint_leaves_a_whole_one_the_old_or_the_new(tmp_path):
    def write(step: int, weights: bytes) -> None:
        checkpoint.write(
            tmp_path, step=step, state={"step": step}, adapter={"w": weights}, optimizer=b"moments", best=None
        )
        checkpoint.prune(tmp_path, keep_last=1, keep_steps=[])

    write(1, b"one")
    lives, is_alive = 0, False
    while not is_alive:
        with pytest.MonkeyPatch.context() as monkeypatch:
            Interruptions(monkeypatch, lives)
            try:
                write(2, b"two")
                is_alive = True
            except Crash:
                pass
        found = checkpoint.load_latest(tmp_path)
        assert found is not None
        assert (found.adapter_path / "w").read_bytes() == {1: b"one", 2: b"two"}[found.state["step"]]
        lives += 1
    assert lives > 8
    assert [path.name for path in tmp_path.iterdir()] == ["step-000002"]


def test_a_checkpoint_of_other_rows_is_refused(smallest, tmp_path):
    spec = forty_steps(smallest, tmp_path)
    found = Run()
    train(smallest, spec, found.reports.append, lambda: "pause" if found.metrics else None)
    other = forty_steps(smallest, tmp_path, rows=completions(57))
    with pytest.raises(WorkerFailure) as failure:
        go_on(smallest, other, Run())
    assert failure.value.error.code == "checkpoint_mismatch"


def test_rows_whose_bytes_are_not_the_stated_ones_are_not_trained_on(smallest, tmp_path):
    spec = forty_steps(smallest, tmp_path)
    Path(spec.train_rows).write_text(Path(spec.train_rows).read_text().replace("parcel", "letter"))
    with pytest.raises(WorkerFailure) as failure:
        run(smallest, spec)
    assert failure.value.error.code == "rows_hash_mismatch"


def test_equal_seeds_give_equal_adapters_whatever_ran_before_and_another_seed_another(job, resident, tmp_path):
    """No other job's adapter has a part in it, nor the state of any global generator."""
    first = run(resident, make_spec(job, resident, tmp_path / "a")).finished.adapter_sha256
    other = run(resident, make_spec(job, resident, tmp_path / "b", seed=8)).finished.adapter_sha256
    run(resident, make_spec(job, resident, tmp_path / "c", n_epochs=1, lora={"rank": 2, "dropout": 0.5}))
    torch.manual_seed(random.randrange(2**31))  # noqa: S311 no secret
    again = run(resident, make_spec(job, resident, tmp_path / "d")).finished.adapter_sha256
    assert again == first != other


def test_a_run_leaves_nothing_behind_but_checkpoints_and_their_figures(smallest, tmp_path):
    """No encoded rows are kept, so none can be stale: every attempt encodes the rows it was given."""
    spec = forty_steps(smallest, tmp_path)
    run(smallest, spec)
    here = {path.name for path in tmp_path.iterdir()}
    assert here == {"train.jsonl", "valid.jsonl", "out"}
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["checkpoints"]
    left = {path.name for path in (tmp_path / "out" / "checkpoints").iterdir()}
    assert left == {"step-000020", "step-000040", METRIC_LOG}


def test_a_changed_template_or_tokenizer_acts_at_once(smallest, tmp_path):
    first = run(smallest, make_spec(CHAT, smallest, tmp_path / "a", n_epochs=1)).encoded
    other = build_tiny_base(tmp_path / "other", hidden_size=16, layers=1, writes_bos=True)
    resident = load_base(other, torch.device("cpu"))
    second = run(resident, make_spec(CHAT, resident, tmp_path / "b", n_epochs=1)).encoded
    assert second.tokens == first.tokens + 12  # a BOS in each row
