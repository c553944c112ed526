"""The wire of jobs: by the official client in strict mode, and by hand where it would not go."""

import openai
import pytest

from app.identity.policy import Role
from tests.support.job_world import adapter, chat_rows, clients_world, metric, preference_rows


@pytest.fixture
def world(services, api_key):
    return clients_world(services, api_key)


def test_the_official_client_takes_a_job_through_its_life(world, openai_client):
    jobs = openai_client.fine_tuning.jobs
    file = openai_client.files.create(file=("rows.jsonl", chat_rows(30)), purpose="fine-tune")
    job = jobs.create(
        model="tiny",
        training_file=file.id,
        seed=42,
        suffix="demo",
        metadata={"run": "1"},
        integrations=[{"type": "wandb", "wandb": {"project": "p", "name": "n", "entity": "e", "tags": ["t"]}}],
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2}}},
    )
    assert (job.status, job.seed, job.error, job.result_files) == ("validating_files", 42, None, [])
    assert job.hyperparameters.n_epochs == 2
    assert job.hyperparameters.batch_size == "auto"
    world.validate()
    queued = jobs.retrieve(job.id)
    assert (queued.status, queued.hyperparameters.batch_size) == ("queued", 1)
    assert queued.queue["message"].startswith("The job is next")
    task = world.claim()
    with world.services() as s:
        s.job_worker.record_metrics(task.job_id, task.fence, [metric(1), metric(2)])
        s.job_worker.publish_checkpoint(task.job_id, task.fence, 1, adapter("a/1"), metric(1), is_final=False)
        final = s.job_worker.publish_checkpoint(task.job_id, task.fence, 2, adapter("a/2"), metric(2), is_final=True)
    running = jobs.retrieve(job.id)
    assert (running.status, running.fine_tuned_model, running.trained_tokens) == ("running", None, None)
    assert running.estimated_finish > running.created_at
    with world.services() as s:
        s.job_worker.succeed(task.job_id, task.fence, trained_tokens=20)
    done = jobs.retrieve(job.id)
    assert (done.status, done.fine_tuned_model, done.trained_tokens) == ("succeeded", final, 20)
    assert openai_client.files.content(done.result_files[0]).text.startswith("step,train_loss,train_accuracy")
    events = list(jobs.list_events(job.id, limit=3))
    assert events[0].message == "The job has successfully completed"
    assert events[-1].message == f"Created fine-tuning job: {job.id}"
    metrics = [event for event in events if event.type == "metrics"]
    assert [event.data["step"] for event in metrics] == [2, 1]
    checkpoints = list(jobs.checkpoints.list(job.id, limit=1))
    assert [checkpoint.step_number for checkpoint in checkpoints] == [2, 1]
    assert checkpoints[0].fine_tuned_model_checkpoint == final
    assert checkpoints[0].metrics.train_loss == 1.0


def test_pages_go_on_where_the_last_one_ended(world, openai_client):
    file_id = world.add_file(chat_rows(10))
    made = [world.submit(training_file=file_id, metadata={"n": str(n % 2)} if n else None) for n in range(5)]
    jobs = openai_client.fine_tuning.jobs
    assert [job.id for job in jobs.list(limit=2)] == made[::-1]
    assert [job.id for job in jobs.list(metadata={"n": "1"})] == [made[3], made[1]]
    assert [job.id for job in jobs.list(extra_query={"metadata": "null"})] == [made[0]]
    assert list(jobs.list(after="unknown")) == []
    assert jobs.list(limit=0).data == []


def test_every_state_of_a_job_is_valid_for_the_client_but_paused_in_strict_mode(world, openai_client, client):
    job_id = world.queued()
    assert client.post(f"/v1/fine_tuning/jobs/{job_id}/pause").json()["status"] == "paused"
    assert client.post(f"/v1/fine_tuning/jobs/{job_id}/pause").status_code == 200
    assert openai_client.fine_tuning.jobs.resume(job_id).status == "queued"
    assert openai_client.fine_tuning.jobs.resume(job_id).status == "queued"
    assert openai_client.fine_tuning.jobs.cancel(job_id).status == "cancelled"
    assert openai_client.fine_tuning.jobs.cancel(job_id).status == "cancelled"
    failed = openai_client.fine_tuning.jobs.retrieve(world.queued(rows=chat_rows(2)))
    assert (failed.status, failed.error.code) == ("failed", "invalid_n_examples")


@pytest.mark.parametrize("verb", ["pause", "resume"])
def test_a_job_that_has_ended_cannot_be_moved_and_clients_are_told_not_to_retry(world, client, verb):
    job_id = world.queued()
    client.post(f"/v1/fine_tuning/jobs/{job_id}/cancel")
    answer = client.post(f"/v1/fine_tuning/jobs/{job_id}/{verb}")
    assert answer.status_code == 409
    assert answer.headers["x-should-retry"] == "false"
    assert answer.json()["error"]["code"] == "invalid_job_state"
    assert "has already been cancelled" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("change", "param", "words"),
    [
        ({"model": "gpt-9"}, "model", "gpt-9"),
        ({"model": "../etc"}, "model", "does not exist"),
        ({"training_file": "file-x"}, "training_file", "invalid training_file: file-x"),
        ({"validation_file": "file-x"}, "validation_file", "invalid validation_file: file-x"),
        ({"suffix": "a:b"}, "suffix", "suffix"),
        ({"suffix": ""}, "suffix", ""),
        ({"suffix": "x" * 65}, "suffix", ""),
        ({"seed": -1}, "seed", ""),
        ({"seed": True}, "seed", ""),
        ({"seed": 2**31}, "seed", ""),
        ({"hyperparameters": {"n_epochs": 0}}, "hyperparameters.n_epochs", ""),
        ({"hyperparameters": {"n_epochs": "3"}}, "hyperparameters.n_epochs", ""),
        ({"hyperparameters": {"batch_size": 257}}, "hyperparameters.batch_size", ""),
        ({"hyperparameters": {"learning_rate_multiplier": 0}}, "hyperparameters.learning_rate_multiplier", ""),
        ({"method": {"type": "reinforcement", "reinforcement": {}}}, "method.type", "not available"),
        ({"method": {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0}}}}, "method.dpo.hyperparameters.beta", ""),
        ({"method": {"type": "dpo", "dpo": {"hyperparameters": {"beta": 3}}}}, "method.dpo.hyperparameters.beta", ""),
        ({"method": {"type": "dpo"}, "task": "summarization"}, "task", "'dpo' is for the task 'chat'"),
        ({"task": "classification"}, "task", ""),
        ({"task": "token-classification"}, "model", "needs an encoder"),
        ({"training": {"ranks": 4}}, "training.ranks", ""),
        ({"training": {"rank": 0}}, "training.rank", ""),
        ({"training": {"rank": True}}, "training.rank", ""),
        ({"training": {"rank": 513}}, "training.rank", ""),
        ({"training": {"alpha": 0}}, "training.alpha", ""),
        ({"training": {"dropout": 1}}, "training.dropout", ""),
        ({"training": {"targets": []}}, "training.targets", ""),
        ({"training": {"targets": ["a b"]}}, "training.targets", ""),
        ({"training": {"adapter": "ia3"}}, "training.adapter", ""),
        ({"training": {"quantization": "int8"}}, "training.quantization", ""),
        ({"training": {"schedule": "step"}}, "training.schedule", ""),
        ({"training": {"early_stopping": True}}, "training.early_stopping", ""),
        ({"training": {"early_stopping": {"patience": 0}}}, "training.early_stopping", ""),
        ({"training": {"early_stopping": {"wait": 1}}}, "training.early_stopping", ""),
        ({"training": {"keep_checkpoints": 51}}, "training.keep_checkpoints", ""),
        ({"training": {"max_length": 129}}, "training.max_length", "reads at most 128 tokens"),
        (
            {"training": {"learning_rate": 1e-4}, "hyperparameters": {"learning_rate_multiplier": 2}},
            "training.learning_rate",
            "not both",
        ),
        ({"training": {"adapter": "none", "rank": 4}}, "training.rank", "makes none"),
        ({"training": {"adapter": "none", "quantization": "nf4"}}, "training.quantization", "4 bits"),
        ({"method": {"type": "magic"}}, "method.type", ""),
        ({"metadata": {"k" * 65: "v"}}, "metadata", ""),
        ({"metadata": {"k": "v" * 513}}, "metadata.k", ""),
        ({"metadata": {str(n): "v" for n in range(17)}}, "metadata", ""),
        ({"metadata": {"k": 1}}, "metadata.k", ""),
        ({"integrations": [{"type": "mlflow"}]}, "integrations", ""),
        ({"priority": "highest"}, "priority", ""),
    ],
)
def test_a_wrong_request_is_a_400_that_names_the_field(world, client, change, param, words):
    body = {"model": "tiny", "training_file": world.add_file(chat_rows(10)), **change}
    answer = client.post("/v1/fine_tuning/jobs", json=body)
    error = answer.json()["error"]
    assert answer.status_code == 400, answer.text
    assert error["type"] == "invalid_request_error"
    assert error["param"].startswith(param)
    assert words in error["message"]
    assert client.get("/v1/fine_tuning/jobs").json()["data"] == []


def test_a_file_of_another_purpose_cannot_be_trained_on(world, client):
    body = {"model": "tiny", "training_file": world.add_file(b"x", purpose="user_data")}
    error = client.post("/v1/fine_tuning/jobs", json=body).json()["error"]
    assert error["code"] == "invalid_file_purpose"


def test_the_clients_whole_body_with_blocks_of_other_methods_is_accepted(world, openai_client):
    hyperparameters = {"batch_size": "auto", "learning_rate_multiplier": "auto", "n_epochs": "auto"}
    job = openai_client.fine_tuning.jobs.create(
        model="tiny",
        training_file=world.add_file(chat_rows(10)),
        hyperparameters={"n_epochs": 9, "learning_rate_multiplier": 2},
        method={
            "type": "supervised",
            "dpo": {"hyperparameters": {**hyperparameters, "beta": "auto"}},
            "reinforcement": {"grader": {"type": "string_check"}, "hyperparameters": {"eval_samples": "auto"}},
            "supervised": {"hyperparameters": {"n_epochs": 4}},
        },
        extra_body={"future_field": 1},
    )
    assert job.method.type == "supervised"
    assert job.method.dpo is None
    assert (job.hyperparameters.n_epochs, job.hyperparameters.learning_rate_multiplier) == (4, 2.0)


def test_a_dpo_job_shows_its_method_and_becomes_numbers(world, openai_client):
    job = openai_client.fine_tuning.jobs.create(
        model="tiny",
        training_file=world.add_file(preference_rows(30)),
        method={
            "type": "dpo",
            "dpo": {"hyperparameters": {"beta": 0.2, "n_epochs": 2}},
            "supervised": {"hyperparameters": {"n_epochs": 99}},
        },
    )
    assert job.method.type == "dpo"
    assert job.method.supervised is None
    assert (job.method.dpo.hyperparameters.beta, job.method.dpo.hyperparameters.batch_size) == (0.2, "auto")
    assert job.hyperparameters.n_epochs == 2
    assert job.task == "chat"
    world.validate()
    queued = openai_client.fine_tuning.jobs.retrieve(job.id)
    assert queued.method.dpo.hyperparameters.to_dict() == {
        "batch_size": 8,
        "beta": 0.2,
        "learning_rate_multiplier": 1.0,
        "n_epochs": 2,
    }


def test_a_beta_left_out_is_auto_until_it_is_known(world, client):
    body = {"model": "tiny", "training_file": world.add_file(chat_rows(10)), "method": {"type": "dpo"}}
    assert client.post("/v1/fine_tuning/jobs", json=body).json()["method"] == {
        "type": "dpo",
        "dpo": {
            "hyperparameters": {
                "batch_size": "auto",
                "learning_rate_multiplier": "auto",
                "n_epochs": "auto",
                "beta": "auto",
            }
        },
    }


def test_settings_are_shown_as_asked_and_then_as_numbers(world, client):
    body = {
        "model": "tiny",
        "training_file": world.add_file(chat_rows(30)),
        "task": "chat",
        "training": {"adapter": "dora", "rank": 4, "early_stopping": False, "learning_rate": None, "alpha": "auto"},
    }
    asked = client.post("/v1/fine_tuning/jobs", json=body).json()
    assert asked["task"] == "chat"
    assert (asked["training"]["adapter"], asked["training"]["rank"]) == ("dora", 4)
    assert asked["training"]["early_stopping"] is False
    assert (asked["training"]["alpha"], asked["training"]["learning_rate"]) == ("auto", "auto")
    world.validate()
    shown = client.get(f"/v1/fine_tuning/jobs/{asked['id']}").json()
    assert shown["training"] == {
        "adapter": "dora",
        "rank": 4,
        "alpha": 8.0,
        "dropout": 0.0,
        "targets": "all-linear",
        "quantization": "none",
        "learning_rate": 5e-4,
        "schedule": "linear",
        "warmup_fraction": 0.05,
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "max_length": 128,
        "early_stopping": False,
        "keeps_best": False,
        "keep_checkpoints": 3,
        "valid_every_steps": 11,
    }


def test_the_task_is_unknown_until_the_rows_have_told(world, client):
    job_id = world.submit()
    assert client.get(f"/v1/fine_tuning/jobs/{job_id}").json()["task"] is None
    world.validate()
    assert client.get(f"/v1/fine_tuning/jobs/{job_id}").json()["task"] == "chat"


@pytest.mark.parametrize(
    ("kind", "refused"),
    [
        ("encoder", {"task": "chat"}),
        ("encoder", {"method": {"type": "dpo"}}),
        ("encoder", {"task": "summarization"}),
        ("encoder_decoder", {"task": "chat"}),
        ("encoder_decoder", {"task": "text-classification"}),
        ("encoder_decoder", {"task": "token-classification"}),
        ("decoder", {"task": "token-classification"}),
    ],
)
def test_a_task_that_the_base_s_family_cannot_learn_is_refused_at_once(world, client, kind, refused):
    world.add_base("other", kind)
    body = {"model": "other", "training_file": world.add_file(chat_rows(10)), **refused}
    error = client.post("/v1/fine_tuning/jobs", json=body).json()["error"]
    assert (error["param"], error["code"]) == ("model", "unsupported_task")
    assert "'other' is an encoder" in error["message"] or "'other' is a decoder" in error["message"]


@pytest.mark.parametrize("setting", [{"rank": 8}, {"adapter": "lora"}, {"targets": ["q_proj"]}, {"adapter": "none"}])
def test_the_shape_of_a_continued_adapter_is_no_choice(world, client, setting):
    task = world.running(training={"adapter": "dora", "rank": 4})
    with world.services() as s:
        parent = s.job_worker.publish_checkpoint(task.job_id, task.fence, 9, adapter("p/1"), None, is_final=True)
        s.job_worker.succeed(task.job_id, task.fence, trained_tokens=1)
    body = {"model": parent, "training_file": world.add_file(chat_rows(10)), "training": setting}
    error = client.post("/v1/fine_tuning/jobs", json=body).json()["error"]
    assert error["param"] == f"training.{next(iter(setting))}"
    assert "continues from" in error["message"]
    same = {**body, "training": {"rank": 4, "adapter": "dora"}}
    assert client.post("/v1/fine_tuning/jobs", json=same).status_code == 200


def test_a_score_that_chooses_checkpoints_is_in_the_metrics_with_its_name(world, client):
    task = world.running()
    with world.services() as s:
        scored = metric(2, selection_score=0.75, selection_score_name="macro_f1")
        s.job_worker.record_metrics(task.job_id, task.fence, [metric(1), scored])
    first, second = client.get(f"/v1/fine_tuning/jobs/{task.job_id}/metrics").json()["data"]
    assert (second["figures"]["selection_score"], second["selection_score_name"]) == (0.75, "macro_f1")
    assert first["selection_score_name"] is None


def test_a_seed_is_made_if_none_is_given(world, openai_client):
    job = openai_client.fine_tuning.jobs.create(model="tiny", training_file=world.add_file(chat_rows(10)))
    assert 0 <= job.seed < 2**31


def test_a_repeated_create_with_the_same_key_makes_one_job(world, client):
    body = {"model": "tiny", "training_file": world.add_file(chat_rows(10))}
    first, second = (
        client.post("/v1/fine_tuning/jobs", json=body, headers={"Idempotency-Key": "k1"}) for _ in range(2)
    )
    assert first.json() == second.json()
    assert len(client.get("/v1/fine_tuning/jobs").json()["data"]) == 1


def test_a_job_of_another_team_is_as_absent(world, client):
    other = world.add_team("umbrella")
    job_id = world.submit(other)
    for method, path in (
        ("GET", ""),
        ("POST", "/cancel"),
        ("POST", "/pause"),
        ("POST", "/resume"),
        ("GET", "/events"),
        ("GET", "/checkpoints"),
        ("GET", "/metrics"),
        ("GET", "/stream"),
    ):
        answer = client.request(method, f"/v1/fine_tuning/jobs/{job_id}{path}")
        absent = client.request(method, f"/v1/fine_tuning/jobs/ftjob-absent{path}")
        assert answer.status_code == absent.status_code == 404
        assert answer.json()["error"]["message"].replace(job_id, "ftjob-absent") == absent.json()["error"]["message"]
    foreign_file = world.add_file(chat_rows(10), other)
    body = {"model": "tiny", "training_file": foreign_file}
    assert client.post("/v1/fine_tuning/jobs", json=body).status_code == 400


def test_a_viewer_may_look_but_not_touch(world, client):
    job_id = world.queued()
    with world.services() as s:
        _, key = s.identity.create_key(world.team.team_id, "eyes", Role.VIEWER, actor="system")
    headers = {"Authorization": f"Bearer {key}"}
    assert client.get(f"/v1/fine_tuning/jobs/{job_id}", headers=headers).status_code == 200
    answer = client.post(f"/v1/fine_tuning/jobs/{job_id}/cancel", headers=headers)
    assert answer.status_code == 403


def test_metrics_are_a_series_in_pages(world, client):
    task = world.running()
    with world.services() as s:
        s.job_worker.record_metrics(task.job_id, task.fence, [metric(n) for n in range(1, 6)])
    url = f"/v1/fine_tuning/jobs/{task.job_id}/metrics"
    first = client.get(url, params={"limit": 3}).json()
    assert [item["step"] for item in first["data"]] == [1, 2, 3]
    assert (first["has_more"], first["last_step"]) == (True, 3)
    rest = client.get(url, params={"after_step": 3}).json()
    assert [item["step"] for item in rest["data"]] == [4, 5]
    assert rest["has_more"] is False
    assert rest["data"][0]["figures"]["learning_rate"] == 1e-4


def test_wrong_keys_are_refused(world, openai_client):
    with pytest.raises(openai.AuthenticationError):
        openai_client.with_options(api_key="sk-wrong").fine_tuning.jobs.list()
