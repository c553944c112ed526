"""The main job through real processes on a tiny model, undisturbed and disturbed: the same adapter every time."""

import io
import json
import shutil
import tarfile
import tempfile
from pathlib import Path

import pytest

from app.cli.base_sources import LocalFolder
from app.cli.bases import add_base
from app.cli.chat import stream_answer
from app.cli.files import upload
from app.cli.jobs import submit
from tests.support.running_service import running_service
from tests.support.tiny_models import build_tiny_base

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
_LABELS = ("billing", "delivery", "returns")
_STEPS = 120


@pytest.fixture(scope="module")
def service():
    """Outside of pytest's long temp folders; the base is a tiny random Llama."""
    root = Path(tempfile.mkdtemp(prefix="tsm-"))
    build_tiny_base(root / "tiny-llama")
    with running_service(root / "data") as service:
        add_base(service.client, LocalFolder(root / "tiny-llama", "tiny-llama", "Apache-2.0"), root / "data" / "bases")
        yield service
    shutil.rmtree(root)


@pytest.fixture(scope="module")
def files(service, tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    ids = []
    for name, count in (("train", 48), ("heldout", 12)):
        rows = [
            {
                "messages": [
                    {"role": "user", "content": f"ticket {name} {number} about {_LABELS[number % 3]}"},
                    {"role": "assistant", "content": _LABELS[number % 3]},
                ]
            }
            for number in range(count)
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        ids.append(upload(service.client, folder / f"{name}.jsonl")["id"])
    return ids


def _start(service, files):
    body = {"model": "tiny-llama", "training_file": files[0], "validation_file": files[1], "seed": 3}
    # 48 rows / 4 a step x 10 epochs = 120 steps.
    return submit(service.client, body, {"n_epochs": 10, "batch_size": 4})["id"]


def _last_loss(service, job_id):
    page = service.client.get(f"/v1/fine_tuning/jobs/{job_id}/metrics", after_step=_STEPS - 1)
    assert page["last_step"] == _STEPS
    return page["data"][-1]["figures"]["train_loss"]


def _adapter(service, model):
    """(SHA-256 the service names, file names) of the adapter archive."""
    with service.client.stream("GET", f"/v1/models/{model}/adapter") as response:
        content = response.read()
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            return response.headers["x-adapter-sha256"], {Path(name).name for name in archive.getnames()}


@pytest.fixture(scope="module")
def undisturbed(service, files):
    job_id = _start(service, files)
    return service.run_to_end(job_id), _last_loss(service, job_id)


def test_upload_to_job_to_evaluation_to_chat_to_adapter(service, undisturbed):
    job, _ = undisturbed
    assert job["status"] == "succeeded", job["error"]
    evaluation = job["evaluation"]
    assert evaluation["rows"] == 12
    assert sorted(evaluation["labels"]) == sorted(_LABELS)
    assert evaluation["tuned"]["loss"] < evaluation["base"]["loss"]
    assert evaluation["tuned"]["classification"]["n"] == 12
    assert evaluation["base"]["latency"]["time_to_first_token_ms_p50"] > 0

    model = job["fine_tuned_model"]
    sha256, names = _adapter(service, model)
    assert len(sha256) == 64
    assert {"adapter_config.json", "adapter_model.safetensors"} <= names
    question = [{"role": "user", "content": "ticket 1 about delivery"}]
    pieces = list(stream_answer(service.client, model, question, temperature=0, max_completion_tokens=8))
    assert "".join(pieces)

    events = [event["message"] for event in service.client.pages(f"/v1/fine_tuning/jobs/{job['id']}/events")]
    assert events[-1] == f"Created fine-tuning job: {job['id']}"
    assert "The job has successfully completed" in events[:3]


@pytest.mark.parametrize("victim", ["engine", "supervisor", "redis"])
def test_a_kill_in_the_middle_of_a_job_changes_nothing_in_its_result(service, files, undisturbed, victim):
    reference, reference_loss = undisturbed
    find = {
        "engine": service.engine,
        "supervisor": lambda: service.find("--role", "gpu"),
        "redis": lambda: service.find("redis-server"),
    }[victim]
    job_id = _start(service, files)
    job = service.run_to_end(job_id, at_step=_STEPS // 3, do=lambda: find().kill())
    assert job["status"] == "succeeded", job["error"]
    assert _last_loss(service, job_id) == reference_loss
    assert _adapter(service, job["fine_tuned_model"])[0] == _adapter(service, reference["fine_tuned_model"])[0]


def test_a_job_goes_on_after_the_whole_service_was_stopped_and_after_it_was_killed(service, files, undisturbed):
    """The last test of this file: it ends the shared service."""
    reference, reference_loss = undisturbed
    job_id = _start(service, files)
    service.run_until(job_id, _STEPS // 4)
    assert service.stop() == 0
    with running_service(service.folder) as second:
        second.run_until(job_id, _STEPS // 2)
        second.process.kill()
        second.process.wait()
    with running_service(service.folder) as third:
        job = third.run_to_end(job_id)
        assert job["status"] == "succeeded", job["error"]
        assert _last_loss(third, job_id) == reference_loss
        tuned = [third.client.get(f"/v1/fine_tuning/jobs/{j['id']}")["fine_tuned_model"] for j in (job, reference)]
        assert _adapter(third, tuned[0])[0] == _adapter(third, tuned[1])[0]
