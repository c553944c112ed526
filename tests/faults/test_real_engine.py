import json
import os
import signal
import tarfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from tests.faults.scarcity import NotAllowedError, small_disk
from tests.support.house import House
from workers.supervisor.engine_process import ENGINE_COMMAND

ROWS, EPOCHS, BATCH = 96, 3, 3


@pytest.fixture
def real_house(house: House) -> House:
    """The house with a tiny base of its own and the real engine."""
    from tests.support.tiny_models import build_tiny_base  # noqa: PLC0415 - torch takes seconds to import

    folder = house.context.settings.bases_dir / "tiny-llama"
    build_tiny_base(folder)
    with house.services() as services:
        found = services.bases.inspect("tiny-llama")
        services.bases.register("system", "tiny-llama", found, licence="Apache-2.0", source="test")
    house.engine_command = ENGINE_COMMAND
    return house


def submit(house: House) -> str:
    return house.submit(base="tiny-llama", rows=ROWS, epochs=EPOCHS, batch_size=BATCH)


def results(house: House, job_id: str) -> tuple[str, dict[int, float]]:
    return house.adapter_sha256(job_id), house.metrics(job_id)


@pytest.mark.slow
def test_kill_9_of_the_real_engine_changes_neither_loss_nor_adapter(real_house: House) -> None:
    house = real_house
    with house.gpu_worker() as worker:
        unbroken = submit(house)
        house.wait_for_status(unbroken, "succeeded", 90)
        broken = submit(house)
        last = max(house.metrics(unbroken))
        house.wait_until(lambda: max(house.metrics(broken), default=0) >= last // EPOCHS, "the first epoch", 60)
        os.kill(worker.engine_pid(), signal.SIGKILL)
        job = house.wait_for_status(broken, "succeeded", 90)
    assert job.attempts == 1
    assert any(message.startswith("Resuming from the checkpoint of step") for message in house.events(broken))
    assert results(house, broken) == results(house, unbroken)
    assert job.evaluation["tuned"]["loss"] == house.job(unbroken).evaluation["tuned"]["loss"]


@pytest.mark.slow
def test_the_published_adapter_is_the_one_the_engine_wrote(real_house: House, tmp_path: Path) -> None:
    house = real_house
    job_id = house.submit(base="tiny-llama", rows=20, epochs=1)
    with house.gpu_worker():
        job = house.wait_for_status(job_id, "succeeded", 90)
    model = house.models(job_id)[job.tuned_model_id]
    archive = tmp_path / "adapter.tar"
    house.context.artifacts.fetch(model.archive_key, archive, sha256=model.archive_sha256)
    with tarfile.open(archive) as tar:
        names = ["adapter_config.json", "adapter_model.safetensors", "manifest.json", "tunesmith.json"]
        assert sorted(tar.getnames()) == names
        manifest = json.load(tar.extractfile("manifest.json"))
    assert manifest["files"] == model.files
    assert model.files["adapter_model.safetensors"]["sha256"] == model.adapter_sha256


@pytest.mark.slow
def test_cancel_and_sigterm_reach_the_real_engine(real_house: House) -> None:
    house = real_house
    job_id = submit(house)
    with house.gpu_worker() as worker:
        house.wait_until(lambda: bool(house.metrics(job_id)), "the first step", 60)
        house.cancel(job_id)
        house.wait_for_status(job_id, "cancelled", 10)
        assert house.checkpoints(job_id)
        second = submit(house)
        house.wait_until(lambda: bool(house.metrics(second)), "the first step", 60)
        pid = worker.engine_pid()
    assert not psutil.pid_exists(pid)
    job = house.job(second)
    assert (job.status, job.attempts) == ("queued", 0)
    assert job.resume_checkpoint is not None


@pytest.mark.slow
def test_rows_with_labels_become_a_scored_classifier_on_an_encoder(real_house: House) -> None:
    from tests.support.tiny_encoders import build_tiny_encoder  # noqa: PLC0415 - torch takes seconds to import

    house = real_house
    build_tiny_encoder(house.context.settings.bases_dir / "tiny-bert")
    with house.services() as services:
        found = services.bases.inspect("tiny-bert")
        services.bases.register("system", "tiny-bert", found, licence="Apache-2.0", source="test")
    words = {"billing": "my money back", "delivery": "the parcel is late"}
    labels = [list(words)[number % 2] for number in range(120)]
    lines = [{"text": f"{words[label]} {number}", "label": label} for number, label in enumerate(labels)]
    job_id = house.submit(base="tiny-bert", lines=lines, epochs=2, batch_size=8)
    with house.gpu_worker():
        job = house.wait_for_status(job_id, "succeeded", 90)
    assert job.task == "text-classification"
    assert job.evaluation["labels"] == ["billing", "delivery"]
    assert job.evaluation["tuned"]["classification"]["n"] == 12
    said = house.events(job_id)
    assert any(message.startswith("early_stopping off: the task's own score") for message in said)
    assert any(message.startswith("The result is ") for message in said)
    assert any(message.startswith("Evaluation. On 12 held-out rows the tuned model ") for message in said)
    model = house.models(job_id)[job.tuned_model_id]
    assert (model.recipe, model.labels, model.tuning) == ("text_classification", ["billing", "delivery"], "adapter")


@pytest.mark.slow
def test_a_full_disk_is_named_and_the_job_goes_on_once_there_is_room(real_house: House) -> None:
    house = real_house
    with ExitStack() as stack:
        try:
            disk = stack.enter_context(small_disk())
        except NotAllowedError as error:
            pytest.skip(str(error))
        scratch = house.folder / "scratch"
        scratch.rmdir()
        scratch.symlink_to(disk.folder)
        house.worker_context = replace(
            house.context, settings=house.context.settings.model_copy(update={"scratch_min_free_bytes": 0})
        )
        job_id = submit(house)
        disk.leave(60)
        with house.gpu_worker():
            house.wait_until(lambda: house.job(job_id).attempts == 1, "the first attempt is lost", 60)
            assert "is full. The operator of the service has to make room on it" in "\n".join(house.events(job_id))
            disk.free()
            house.wait_for_status(job_id, "succeeded", 90)
