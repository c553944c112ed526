"""The commands against the real API: what they print and how they end."""

import hashlib
import json
from datetime import timedelta
from decimal import Decimal

import pytest
from sqlalchemy import func, select

from app.cli.main import main
from app.db.tables import UsageRecord
from app.pool.service import WorkerCard
from tests.support.job_world import clients_world
from tests.support.tuned_models import add_base


@pytest.fixture
def run(live_server, api_key, monkeypatch, capsys, tmp_path):
    """Runs one command line; (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        argv = ["tunesmith", "--base-url", live_server, "--api-key", api_key, *arguments]
        monkeypatch.setattr("sys.argv", argv)
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        else:
            code = 0
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.jsonl"
    row = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]}
    path.write_text((json.dumps(row) + "\n") * 12)
    return path


def test_a_file_goes_up_and_comes_back_the_same(run, rows, tmp_path):
    code, out, _ = run("--json", "files", "upload", str(rows))
    assert code == 0
    file_id = json.loads(out)["id"]
    assert file_id in run("files", "list")[1]
    code, out, _ = run("files", "download", file_id, "-o", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == rows.read_bytes()
    assert hashlib.sha256(rows.read_bytes()).hexdigest() in out
    assert run("files", "delete", file_id)[0] == 0
    assert "No files yet." in run("files", "list")[1]


def test_an_error_of_the_service_is_one_line_on_stderr_and_exit_code_1(run):
    code, out, err = run("files", "show", "file-absent")
    assert (code, out) == (1, "")
    assert err.startswith("Error: ")
    assert "Traceback" not in err


def test_a_wrong_option_ends_with_exit_code_2(run):
    assert run("jobs", "list", "--limit", "none")[0] == 2
    assert run("nonsense")[0] == 2


def test_a_file_that_is_not_there_is_named(run):
    code, _, err = run("files", "upload", "absent.jsonl")
    assert code == 1
    assert "There is no file absent.jsonl." in err


def test_a_new_key_opens_the_door_until_it_is_revoked(run, live_server, monkeypatch):
    code, out, _ = run("--json", "keys", "create", "for a test", "--role", "viewer")
    assert code == 0
    key = json.loads(out)
    assert key["id"] in run("keys", "list")[1]
    assert run("keys", "revoke", key["id"])[0] == 0


def test_empty_lists_say_what_to_do(run):
    assert "No jobs yet." in run("jobs", "list")[1]
    assert "tunesmith bases add" in run("bases", "list")[1]


def test_a_job_on_an_unknown_base_is_refused_in_the_service_s_words(run, rows):
    code, _, err = run("train", str(rows), "--base", "no-such-base")
    assert code == 1
    assert "no-such-base" in err


@pytest.fixture
def base(services):
    add_base(services)
    return "tiny"


def test_a_job_takes_its_task_method_and_settings_from_the_options(run, rows, base):
    options = ["--task", "chat", "--adapter", "dora", "--rank", "4", "--learning-rate", "0.0002", "--epochs", "2"]
    code, out, err = run("--json", "train", str(rows), "--base", base, *options)
    assert code == 0, err
    job = json.loads(out)
    assert (job["task"], job["method"]["type"], job["hyperparameters"]["n_epochs"]) == ("chat", "supervised", 2)
    assert (job["training"]["adapter"], job["training"]["rank"], job["training"]["learning_rate"]) == ("dora", 4, 2e-4)
    assert job["training"]["dropout"] == "auto"


def test_preference_tuning_is_asked_for_by_method_and_beta(run, rows, base):
    code, out, _ = run("--json", "train", str(rows), "--base", base, "--method", "dpo", "--beta", "0.2")
    assert code == 0
    assert json.loads(out)["method"]["dpo"]["hyperparameters"]["beta"] == 0.2


def test_a_beta_without_dpo_is_refused_before_anything_is_sent(run, rows, base):
    code, _, err = run("train", str(rows), "--base", base, "--beta", "0.2")
    assert code == 1
    assert "--method dpo" in err
    assert "No files yet." in run("files", "list")[1]


def test_a_setting_that_the_service_refuses_is_told_in_its_words(run, rows, base):
    code, _, err = run("train", str(rows), "--base", base, "--adapter", "none", "--rank", "4")
    assert code == 1
    assert "training.rank" in err


def test_the_version_is_printed(run):
    code, out, _ = run("version")
    assert code == 0
    assert out.strip()


def test_the_pool_shows_its_workers_and_an_operator_drains_them(run, services):
    assert "No workers are there." in run("pool")[1]
    with services() as s:
        s.pool.register_worker(WorkerCard("gpu0@host", "x", "host", {}, memory_bytes=80 * 10**9, compute_capability=90))
    code, out, _ = run("pool")
    assert code == 0
    assert "gpu0@host" in out
    assert "80.0 GB" in out
    assert "0 of 1 GPUs are in use." in out
    assert "gpu0@host is idle and claims nothing more" in run("pool", "drain", "gpu0@host", "--checkpoint")[1]
    assert "draining" in run("pool")[1]
    assert run("pool", "resume", "gpu0@host")[0] == 0
    assert json.loads(run("--json", "pool")[1])["workers"][0]["status"] == "idle"
    assert run("pool", "drain", "nobody")[0] == 1


def test_the_limits_of_a_team_are_shown_and_set(run, services, api_key):
    with services() as s:
        team_id = s.identity.authenticate(api_key).team_id
    assert json.loads(run("--json", "pool", "limits", team_id)[1])["max_gpus"] is None
    code, out, _ = run("--json", "pool", "limits", team_id, "--max-gpus", "3", "--weight", "2", "--may-not-share")
    assert (code, json.loads(out)["max_gpus"], json.loads(out)["may_share"]) == (0, 3, False)
    assert json.loads(run("--json", "pool", "limits", team_id, "--max-gpus", "none")[1])["max_gpus"] is None
    assert run("pool", "limits", team_id, "--max-gpus", "many")[0] == 1


def test_a_job_says_where_it_stands(run, services, api_key):
    world = clients_world(services, api_key)
    job_id = world.queued()
    code, out, _ = run("jobs", "queue", job_id)
    assert code == 0
    assert "number 1 in the queue, behind 0 of your team and 0 of others" in out
    assert "When it starts cannot be said: No worker of the pool is there." in out
    assert json.loads(run("--json", "jobs", "queue", job_id)[1])["position"] == 1


def test_a_webhook_endpoint_is_made_changed_and_deleted(run):
    code, out, _ = run("--json", "webhooks", "create", "https://hooks.example.com/x", "--name", "ci")
    assert code == 0
    endpoint = json.loads(out)
    assert endpoint["signing_secret"].startswith("whsec_")
    assert endpoint["id"] in run("webhooks", "list")[1]
    assert "budget.warned" in run("webhooks", "events")[1]
    assert run("webhooks", "update", endpoint["id"], "--event", "eval.run.failed", "--disable")[0] == 0
    assert "Disabled by its team." in run("webhooks", "show", endpoint["id"])[1]
    assert "whsec_" in run("webhooks", "rotate", endpoint["id"], "--keep-old")[1]
    assert "No deliveries yet." in run("webhooks", "deliveries", endpoint["id"])[1]
    assert "no delivery 'whd_x'" in run("webhooks", "replay", endpoint["id"], "whd_x")[2]
    assert run("webhooks", "delete", endpoint["id"])[0] == 0
    code, _, err = run("webhooks", "create", "http://127.0.0.1/")
    assert code == 1
    assert "only https" in err


def test_usage_is_shown_as_a_table_and_saved_as_lines(run, services, api_key, tmp_path):
    assert "Nothing was used in the last 30 days." in run("usage")[1]
    with services() as s:
        caller = s.identity.authenticate(api_key)
        now = s.work.session.execute(select(func.clock_timestamp())).scalar_one()
        for number, started_at in enumerate((now - timedelta(hours=30), now - timedelta(hours=2))):
            s.work.session.add(
                UsageRecord(
                    team_id=caller.team_id,
                    member=caller.actor,
                    object_id="ftjob-1",
                    kind="gpu_seconds",
                    source=str(number),
                    device_kind="cuda",
                    quantity=3600,
                    started_at=started_at,
                    ended_at=started_at + timedelta(hours=1),
                    cost=Decimal("1.5"),
                )
            )
    code, out, _ = run("--json", "usage")
    assert code == 0
    row = json.loads(out)
    assert (row["line_item"], round(row["quantity"], 6), round(row["cost"], 6)) == ("gpu_hours, cuda", 2.0, 3.0)
    assert run("usage", "--csv", str(tmp_path / "usage.csv"))[0] == 0
    assert (tmp_path / "usage.csv").read_text().count("ftjob-1") == 2
