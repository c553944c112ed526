"""A job's way through the hands of workers."""

import csv
import io

import pytest

from app.contracts.reports import Encoded
from app.db.tables import Job
from tests.support.job_world import LABELS, OWNER, adapter, chat_rows, labelled_rows, metric, preference_rows


def test_good_files_bring_the_job_to_the_queue_with_its_numbers(world):
    job_id = world.submit()
    assert world.validate() == job_id
    job = world.job(job_id)
    assert job.status == "queued"
    assert job.hyperparameters == {"batch_size": 1, "learning_rate_multiplier": 1.0, "n_epochs": 4}
    assert (job.task, job.spec["recipe"], job.spec["max_length"]) == ("chat", "chat", 128)
    assert (job.training["adapter"], job.training["rank"], job.training["learning_rate"]) == ("lora", 16, 5e-4)
    assert job.dataset_report["labels"] == list(LABELS)
    split = job.dataset_report["split"]
    assert (split["method"], split["train_rows"], split["heldout_rows"]) == ("prompt_hash", 27, 3)
    assert split["leaked_rows"] == 0
    assert (job.owner, job.lease_until) == (None, None)
    messages = world.messages(job_id)
    assert messages[0] == f"Created fine-tuning job: {job_id}"
    assert messages[1] == f"Validating training file: {job.training_file}"
    assert messages[-1] == "Files validated, moving job to queued state"
    starts = ("batch_size 1:", "n_epochs 4:", "learning_rate_multiplier 1.0: a peak rate of 0.0005", "adapter lora, ")
    assert [next(m for m in messages if m.startswith(start)) for start in starts]
    assert world.audited(job_id) == ["job.create", "job.validate"]


def test_a_faulty_file_fails_the_job_and_names_every_line(world):
    rows = chat_rows(10) + b"\n{}\n[1]\n" + b'{"messages": [{"role": "bot"}]}'
    job_id = world.queued(rows=rows)
    job = world.job(job_id)
    assert job.status == "failed"
    assert job.error["code"] == "invalid_training_file"
    assert job.error["param"] == "training_file"
    assert job.error["message"].startswith(
        'The job failed due to an invalid training file. Invalid file format. Example 11 is missing key "messages"'
    )
    assert "3 more faults" in job.error["message"]
    said = "\n".join(world.messages(job_id))
    assert all(f"(line {line})" in said for line in (11, 12, 13))
    assert "has 4 fault(s) in 13 examples" in said
    assert job.finished_at is not None


def test_too_few_examples_have_openais_error(world):
    job = world.job(world.queued(rows=chat_rows(3)))
    assert job.error == {
        "code": "invalid_n_examples",
        "message": "Training file has 3 example(s), but must have at least 10 examples",
        "param": "training_file",
    }


def test_preference_data_are_refused_by_their_name(world):
    job_id = world.queued(rows=b'{"input": {}, "preferred_output": []}\n')
    job = world.job(job_id)
    assert job.status == "failed"
    assert job.error["message"] == (
        f"Input file {job.training_file} is in the fine-tune-preference format, but the specified fine-tuning job "
        "is not using 'dpo' as the training method (provided method=supervised)."
    )


def test_a_validation_file_is_the_held_out_side_and_leaks_are_counted(world):
    validation = world.add_file(chat_rows(5, start=28))
    job = world.job(world.queued(validation_file=validation))
    split = job.dataset_report["split"]
    assert (split["method"], split["train_rows"], split["heldout_rows"]) == ("validation_file", 30, 5)
    assert split["leaked_rows"] == 2
    assert any(m.startswith("2 of 5 validation examples") for m in world.messages(job.id))


def test_a_file_deleted_before_validation_fails_the_job(world):
    job_id = world.submit()
    with world.services() as s:
        s.files.delete(world.team, s.jobs.get(world.team, job_id).training_file)
    assert world.validate() is None
    assert world.job(job_id).error["code"] == "resource_missing"


def test_a_training_claim_carries_all_that_a_run_needs(world):
    task = world.running(seed=7, suffix="demo", hyperparameters={"n_epochs": 2})
    assert task.base.id == "tiny"
    assert task.spec["n_epochs"] == 2
    assert task.spec["seed"] == 7
    assert task.labels == LABELS
    assert (task.parent, task.resume_checkpoint, task.attempts, task.has_evaluation) == (None, None, 0, False)
    assert len(task.training_file.sha256) == 64
    job = world.job(task.job_id)
    assert (job.status, job.owner, job.fence) == ("running", OWNER, task.fence)
    assert world.messages(task.job_id)[-1] == "Fine-tuning job started"
    assert world.claim() is None


def test_a_whole_run_ends_in_a_model_with_results(world, context):
    task = world.running(suffix="demo")
    job_id, fence = task.job_id, task.fence
    with world.services() as s:
        worker = s.job_worker
        worker.record_metrics(job_id, fence, [metric(1), metric(2, valid_loss=0.5, valid_mean_token_accuracy=0.9)])
        assert worker.record_resume_checkpoint(job_id, fence, 2, "k/1", "3" * 64) is None
        assert worker.record_resume_checkpoint(job_id, fence, 3, "k/2", "4" * 64) == "k/1"
    with world.services() as s:
        first = s.job_worker.publish_checkpoint(job_id, fence, 2, adapter("a/1"), metric(2), is_final=False)
        final = s.job_worker.publish_checkpoint(job_id, fence, 4, adapter("a/2"), metric(4), is_final=True)
        assert s.job_worker.publish_checkpoint(job_id, fence, 4, adapter("a/3"), None, is_final=True) == final
        assert s.job_worker.publish_checkpoint(job_id, fence, 2, adapter("a/4"), None, is_final=False) == first
    assert first.startswith("ft:tiny:acme:demo:")
    assert first.endswith(":ckpt-step-2")
    assert world.job(job_id).estimated_finish is not None
    with world.services() as s:
        assert s.job_worker.succeed(job_id, fence, trained_tokens=40) is True
    job = world.job(job_id)
    assert (job.status, job.tuned_model_id, job.trained_tokens, job.owner) == ("succeeded", final, 40, None)
    assert job.estimated_finish is None
    with world.services() as s:
        file = s.files.get(world.team.team_id, job.result_file_id)
        text = b"".join(s.files.open(file)).decode()
    assert file.purpose == "fine-tune-results"
    assert list(csv.reader(io.StringIO(text))) == [
        ["step", "train_loss", "train_accuracy", "valid_loss", "valid_mean_token_accuracy"],
        ["1", "2.0", "0.5", "", ""],
        ["2", "1.0", "0.5", "0.5", "0.9"],
    ]
    messages = world.messages(job_id)
    assert "Step 2/20: training loss=1.00, validation loss=0.50" in messages
    assert f"Checkpoint created at step 2 with Snapshot ID: {first}" in messages
    assert messages[-2:] == [f"New fine-tuned model created: {final}", "The job has successfully completed"]
    assert world.audited(job_id) == ["job.create", "job.validate", "job.claim", "job.succeed"]


def test_a_job_cannot_succeed_without_a_final_adapter(world):
    task = world.running()
    with pytest.raises(ValueError, match="final checkpoint"), world.services() as s:
        s.job_worker.succeed(task.job_id, task.fence, trained_tokens=1)
    assert world.job(task.job_id).status == "running"


def test_an_epoch_checkpoint_at_the_last_step_becomes_the_final_model(world):
    task = world.running()
    with world.services() as s:
        first = s.job_worker.publish_checkpoint(task.job_id, task.fence, 9, adapter(), None, is_final=False)
        final = s.job_worker.publish_checkpoint(task.job_id, task.fence, 9, adapter(), None, is_final=True)
        page = s.jobs.checkpoints(world.team, task.job_id, after=None, limit=10)
    assert first != final
    assert [row.model_id for row in page.rows] == [final]


def test_a_step_recorded_again_after_a_resume_makes_no_second_event(world):
    task = world.running()
    with world.services() as s:
        s.job_worker.record_metrics(task.job_id, task.fence, [metric(1), metric(2)])
    with world.services() as s:
        s.job_worker.release(task.job_id, task.fence)
    again = world.claim("host-1/first")
    with world.services() as s:
        s.job_worker.record_metrics(again.job_id, again.fence, [metric(2, train_loss=9.0), metric(3)])
    steps = [message for message in world.messages(task.job_id) if message.startswith("Step ")]
    assert [text.split("/")[0] for text in steps] == ["Step 1", "Step 2", "Step 3"]
    with world.services() as s:
        rows, _ = s.jobs.metrics(world.team, task.job_id, after_step=0, limit=10)
    assert [row.figures["train_loss"] for row in rows] == [2.0, 9.0, 2.0 / 3]


def test_figures_that_are_no_numbers_are_left_out(world):
    task = world.running()
    with world.services() as s:
        s.job_worker.record_metrics(
            task.job_id, task.fence, [metric(1, train_loss=float("nan"), grad_norm=float("inf"))]
        )
    with world.services() as s:
        (row,), _ = s.jobs.metrics(world.team, task.job_id, after_step=0, limit=10)
    assert "train_loss" not in row.figures
    assert "grad_norm" not in row.figures


def encoded():
    return Encoded(
        run_id="r",
        rows_in=27,
        rows_trained=25,
        dropped=((3, "longer than 128 tokens"), (9, "nothing to learn")),
        truncated=1,
        tokens=1000,
        supervised_tokens=100,
        longest=64,
        total_steps=50,
        trainable_parameters=4096,
        targets=("q_proj",),
    )


def test_encoding_is_stored_and_dropped_rows_are_named(world):
    task = world.running()
    with world.services() as s:
        s.job_worker.record_encoded(task.job_id, task.fence, encoded())
        s.job_worker.record_encoded(task.job_id, task.fence, encoded())
    messages = world.messages(task.job_id)
    assert sum("2 of 27 examples are not trained: line 3: longer than 128 tokens" in text for text in messages) == 1
    assert world.job(task.job_id).encoding["rows_trained"] == 25


def test_what_the_engine_notes_of_a_run_is_said_once(world):
    task = world.running()
    noted = encoded().model_copy(update={"notes": (("info", "The run needs 2 GB."), ("warn", "It is tight."))})
    for _ in range(2):
        with world.services() as s:
            s.job_worker.record_encoded(task.job_id, task.fence, noted)
    assert world.messages(task.job_id)[-2:] == ["The run needs 2 GB.", "It is tight."]
    with world.services() as s:
        page = s.jobs.events(world.team, task.job_id, after=None, limit=2)
    assert [event.level for event in page.rows] == ["warn", "info"]


def test_a_classification_carries_its_labels_to_engine_and_registry(world):
    world.add_base("encoder", "encoder")
    job_id = world.queued(rows=labelled_rows(60, several=True), model="encoder", training={"rank": 4})
    job = world.job(job_id)
    assert (job.status, job.task) == ("queued", "text-classification")
    task = world.claim()
    assert (task.recipe, task.task, task.labels, task.is_multi_label) == (
        "text_classification",
        "text-classification",
        LABELS,
        True,
    )
    assert (task.spec["labels"], task.spec["is_multi_label"], task.spec["lora"]["rank"]) == (list(LABELS), True, 4)
    with world.services() as s:
        model_id = s.job_worker.publish_checkpoint(task.job_id, task.fence, 9, adapter(), None, is_final=True)
        tuned = s.registry.resolve(world.team, model_id).tuned
    assert (tuned.recipe, tuned.labels, tuned.is_multi_label, tuned.tuning) == (
        "text_classification",
        LABELS,
        True,
        "adapter",
    )


def test_chat_answers_that_are_labels_stay_chat(world):
    task = world.running()
    assert (task.recipe, task.labels, task.spec["labels"]) == ("chat", LABELS, None)


def test_rows_that_the_base_cannot_learn_fail_the_job_with_a_way_out(world):
    job_id = world.submit()
    world.validate(recipe="token_classification", labels=("PER",))
    job = world.job(job_id)
    assert (job.status, job.error["code"]) == ("failed", "unsupported_task")
    assert job.error["message"].startswith("The task 'token-classification' needs an encoder, and 'tiny' is a decoder.")
    assert "'chat', 'text-classification', 'summarization'" in job.error["message"]


def test_dpo_is_resolved_with_its_beta(world):
    method = {"type": "dpo", "dpo": {"hyperparameters": {"batch_size": 4}}}
    job_id = world.queued(rows=preference_rows(30), method=method)
    job = world.job(job_id)
    assert (job.status, job.task, job.spec["recipe"]) == ("queued", "chat", "preference")
    assert job.spec["dpo"] == {"beta": 0.1}
    wire = {"batch_size": 4, "learning_rate_multiplier": 1.0, "n_epochs": 1}
    assert job.method == {"type": "dpo", "dpo": {"hyperparameters": {**wire, "beta": 0.1}}}
    assert job.hyperparameters == wire
    task = world.claim()
    assert (task.task, task.method, task.recipe) == ("chat", "dpo", "preference")


def test_an_unusual_setting_is_a_warning_event(world):
    job_id = world.queued(training={"rank": 300})
    with world.services() as s:
        page = s.jobs.events(world.team, job_id, after=None, limit=100)
    (warning,) = [event.message for event in page.rows if event.level == "warn" and "rank" in event.message]
    assert warning.startswith("rank 300")


def test_rows_set_apart_to_choose_make_early_stopping_and_the_best_checkpoint(world):
    job_id = world.queued(rows=chat_rows(200))
    job = world.job(job_id)
    assert job.dataset_report["split"]["selection_rows"] > 10
    assert job.spec["early_stopping"] == {"patience": 3, "min_delta": 0.0}
    assert job.spec["keeps_best"] is True
    assert world.claim().wants_selection is True
    assert any(message.startswith("early_stopping after 3 checks") for message in world.messages(job_id))


def test_where_the_last_step_is_wanted_every_row_trains(world):
    job_id = world.queued(rows=chat_rows(200), training={"early_stopping": False, "keeps_best": False})
    split = world.job(job_id).dataset_report["split"]
    assert (split["selection_rows"], split["train_rows"] + split["heldout_rows"]) == (0, 200)
    assert world.claim().wants_selection is False


def parent_of(world):
    """A finished model of these rows on the encoder `encoder`."""
    task = world.running(rows=labelled_rows(60), model="encoder", training={"adapter": "dora", "rank": 4})
    with world.services() as s:
        parent = s.job_worker.publish_checkpoint(task.job_id, task.fence, 9, adapter("p/1"), None, is_final=True)
        s.job_worker.succeed(task.job_id, task.fence, trained_tokens=1)
    return parent


def test_a_continued_classification_keeps_head_and_adapter_of_its_parent(world):
    world.add_base("encoder", "encoder")
    parent = parent_of(world)
    job_id = world.submit(model=parent, rows=labelled_rows(60))
    world.validate(labels=LABELS[:2])
    job = world.job(job_id)
    assert job.spec["labels"] == list(LABELS)
    assert (job.spec["lora"]["variant"], job.spec["lora"]["rank"]) == ("dora", 4)
    assert world.claim().parent.model_id == parent


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({"labels": (*LABELS, "new")}, "does not know the label(s) 'new'"),
        ({"is_multi_label": True}, "exactly one"),
        ({"recipe": "token_classification"}, "was tuned for 'text-classification'"),
    ],
)
def test_rows_that_the_parent_cannot_learn_fail_the_job(world, found, words):
    world.add_base("encoder", "encoder")
    job_id = world.submit(model=parent_of(world), rows=labelled_rows(60))
    world.validate(**found)
    job = world.job(job_id)
    assert (job.status, job.error["code"]) == ("failed", "unsupported_task")
    assert words in job.error["message"]


def test_a_job_of_an_older_version_goes_on(world):
    job_id = world.queued()
    with world.services() as s:
        job = s.work.session.get(Job, job_id)
        job.training = None
        old = ("recipe", "lora", "optimizer", "batch_size", "n_epochs", "seed", "max_length", "valid_every_steps")
        job.spec = {name: job.spec[name] for name in old}
    task = world.claim()
    assert (task.recipe, task.method, task.is_multi_label, task.labels) == ("chat", "supervised", False, LABELS)


def test_a_job_continues_from_its_own_teams_model(world):
    task = world.running()
    with world.services() as s:
        parent = s.job_worker.publish_checkpoint(task.job_id, task.fence, 9, adapter("p/1"), None, is_final=True)
        s.job_worker.succeed(task.job_id, task.fence, trained_tokens=1)
    again = world.running(model=parent)
    assert (again.parent.model_id, again.parent.archive_key, again.base.id) == (parent, "p/1", "tiny")
