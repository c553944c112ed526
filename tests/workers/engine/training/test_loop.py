import pytest

from app.contracts.errors import WorkerFailure
from tests.workers.engine.conftest import chat_row, train_spec, write_rows
from workers.engine.training.loop import train


def run(tiny, spec, *, should_stop=lambda: None):
    reports = []
    train(tiny, spec, reports.append, should_stop)
    return reports


def of_kind(reports, kind):
    return [report for report in reports if report.kind == kind]


def losses(reports):
    """Step → figures; a repeated step overwrites with equal values or the test of equality fails."""
    return {
        m.step: (m.train_loss, m.learning_rate, m.grad_norm, m.valid_loss, m.full_valid_loss, m.trained_tokens)
        for m in of_kind(reports, "metric")
    }


@pytest.fixture(scope="module")
def unbroken(tiny, tmp_path_factory):
    return run(tiny, train_spec(tiny.ref, tmp_path_factory.mktemp("unbroken"), valid=6, valid_every_steps=2))


def test_a_run_reports_its_rows_steps_checkpoints_and_adapter(unbroken):
    (encoded,) = of_kind(unbroken, "encoded")
    metrics = of_kind(unbroken, "metric")
    (finished,) = of_kind(unbroken, "finished")
    assert encoded.rows_in == encoded.rows_trained + len(encoded.dropped) == 12
    assert encoded.total_steps == 6
    assert [m.step for m in metrics] == [1, 2, 3, 4, 5, 6]
    assert metrics[-1].train_loss < metrics[0].train_loss
    assert metrics[-1].trained_tokens == 2 * encoded.tokens
    assert [m.step for m in metrics if m.valid_loss is not None] == [2, 3, 4, 6]
    assert [m.step for m in metrics if m.full_valid_loss is not None] == [3, 6]
    assert [c.step for c in of_kind(unbroken, "checkpoint") if c.is_epoch_end] == [3, 6]
    assert [c.is_final for c in of_kind(unbroken, "checkpoint")][-1]
    assert finished.adapter_path.endswith("step-000006/adapter")


def test_the_validation_loss_is_the_same_for_any_token_budget(tiny, tmp_path):
    figures = set()
    for budget in (1, 10_000):
        spec = train_spec(tiny.ref, tmp_path / str(budget), valid=6, rows=4, n_epochs=1, token_budget=budget, lora={})
        figures.add(round(of_kind(run(tiny, spec), "metric")[-1].full_valid_loss, 5))
    assert len(figures) == 1


@pytest.mark.parametrize("stop_after", [1, 2, 3, 4, 5])
def test_a_run_stopped_after_any_step_and_resumed_ends_as_the_unbroken_one(tiny, tmp_path, unbroken, stop_after):
    reports = []
    spec = train_spec(tiny.ref, tmp_path, valid=6, valid_every_steps=2, resume_checkpoint_seconds=1000)

    def should_stop():
        return "preempt" if len(of_kind(reports, "metric")) >= stop_after else None

    train(tiny, spec, reports.append, should_stop)
    (stopped,) = of_kind(reports, "stopped")
    assert (stopped.reason, stopped.step) == ("preempt", stop_after)
    assert of_kind(reports, "checkpoint")[-1].step == stop_after
    resumed = spec.model_copy(update={"resume_from": of_kind(reports, "checkpoint")[-1].path})
    train(tiny, resumed, reports.append, lambda: None)
    assert losses(reports) == losses(unbroken)
    assert of_kind(reports, "finished")[0].adapter_sha256 == of_kind(unbroken, "finished")[0].adapter_sha256


def test_a_stop_during_validation_leaves_it_to_the_resumed_run(tiny, tmp_path, unbroken):
    reports = []
    spec = train_spec(tiny.ref, tmp_path, valid=6, valid_every_steps=2)
    polls_after_first_metric = 0

    def should_stop():
        nonlocal polls_after_first_metric
        if of_kind(reports, "metric"):
            polls_after_first_metric += 1
        return "pause" if polls_after_first_metric == 4 else None

    train(tiny, spec, reports.append, should_stop)
    assert of_kind(reports, "stopped")[0].step == 2
    assert losses(reports)[2][3] is None
    resumed = spec.model_copy(update={"resume_from": str(tmp_path / "out" / "checkpoints")})
    train(tiny, resumed, reports.append, lambda: None)
    assert losses(reports) == losses(unbroken)


def test_a_stop_acts_before_the_next_micro_batch(tiny, tmp_path):
    polls = 0
    encoding_polls = 12

    def should_stop():
        nonlocal polls
        polls += 1
        return "cancel" if polls > encoding_polls + 2 else None

    reports = run(tiny, train_spec(tiny.ref, tmp_path, token_budget=1), should_stop=should_stop)
    assert polls == encoding_polls + 3
    assert [r.kind for r in reports][-1] == "stopped"
    assert reports[-1].step == 0
    assert not of_kind(reports, "checkpoint")


def test_a_stop_while_encoding_ends_the_run_at_once(tiny, tmp_path):
    reports = run(tiny, train_spec(tiny.ref, tmp_path), should_stop=lambda: "cancel")
    assert [r.kind for r in reports] == ["stopped"]


def test_resuming_a_finished_run_reports_the_same_adapter_again(tiny, tmp_path):
    spec = train_spec(tiny.ref, tmp_path, rows=4, n_epochs=1)
    first = of_kind(run(tiny, spec), "finished")[0]
    again = run(tiny, spec.model_copy(update={"resume_from": str(tmp_path / "out" / "checkpoints")}))
    assert of_kind(again, "finished")[0].adapter_sha256 == first.adapter_sha256
    assert not of_kind(again, "metric")


@pytest.mark.parametrize("changes", [{"seed": 8}, {"batch_size": 2}, {"n_epochs": 3}])
def test_a_checkpoint_of_another_training_is_refused(tiny, tmp_path, changes):
    spec = train_spec(tiny.ref, tmp_path, rows=4, n_epochs=1)
    run(tiny, spec)
    other = spec.model_copy(update={"resume_from": str(tmp_path / "out" / "checkpoints"), **changes})
    with pytest.raises(WorkerFailure) as failure:
        run(tiny, other)
    assert failure.value.error.code == "checkpoint_mismatch"


def test_a_diverging_loss_is_the_users_error_and_keeps_the_last_good_checkpoint(tiny, tmp_path, monkeypatch):
    spec = train_spec(tiny.ref, tmp_path, optimizer={"learning_rate": 1e38, "warmup_fraction": 0})
    with pytest.raises(WorkerFailure) as failure:
        run(tiny, spec)
    assert failure.value.error.kind == "usage"
    assert failure.value.error.code == "loss_diverged"


def test_a_run_past_its_deadline_fails_with_its_last_step_saved(tiny, tmp_path):
    reports = []
    spec = train_spec(tiny.ref, tmp_path, n_epochs=50, deadline_seconds=0.2, resume_checkpoint_seconds=1000)
    with pytest.raises(WorkerFailure) as failure:
        train(tiny, spec, reports.append, lambda: None)
    assert failure.value.error.code == "deadline_exceeded"
    assert [c.step for c in of_kind(reports, "checkpoint")][-1:] == [m.step for m in of_kind(reports, "metric")][-1:]


def test_validation_rows_left_out_are_named(tiny, tmp_path):
    spec = train_spec(tiny.ref, tmp_path, rows=4, valid=1, n_epochs=1)
    write_rows(tmp_path / "valid.jsonl", (chat_row(1, "hi", "there"), chat_row(9, "<|im_end|>", "forged")))
    messages = [p.message for p in of_kind(run(tiny, spec), "progress")]
    assert any("1 of 2 validation rows left out" in m and "line 9" in m for m in messages)


def test_training_can_start_from_an_adapter(tiny, tmp_path):
    first = of_kind(run(tiny, train_spec(tiny.ref, tmp_path / "a")), "finished")[0]
    start = {"id": "first", "path": first.adapter_path, "sha256": first.adapter_sha256}
    spec = train_spec(tiny.ref, tmp_path / "b", initial_adapter=start, lora={"rank": 4, "alpha": 8})
    metrics = of_kind(run(tiny, spec), "metric")
    assert metrics[0].train_loss < first.train_loss + 0.5
