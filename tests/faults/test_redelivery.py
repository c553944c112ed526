import os
import threading
from pathlib import Path

from tests.support.house import HOST, House
from workers.supervisor.engine_process import engine_environment
from workers.supervisor.engine_run import Patience
from workers.supervisor.engine_slot import EngineSlot
from workers.supervisor.identity import WorkerName
from workers.supervisor.round import train_round


def test_a_message_delivered_again_to_another_gpu_changes_nothing(house: House, tmp_path: Path) -> None:
    house.script({"phase": "train", "step": 3, "kind": "hold_until_released", "times": 1})
    job_id = house.submit()
    shutdown = threading.Event()
    idle = EngineSlot(house.engine_command, engine_environment(os.environ, threads=1), tmp_path / "idle", shutdown)
    with house.gpu_worker():
        house.wait_until(lambda: house.reached("train"), "step 3")
        held = house.job(job_id)
        idle.ensure_ready()
        idle.tell_known(idle.ready)
        for _ in range(3):  # what Redis may do with one message
            train_round(
                house.worker_context,
                WorkerName("gpu1", HOST),
                idle,
                root=tmp_path / "jobs",
                shutdown=shutdown,
                patience=Patience(),
            )
        now = house.job(job_id)
        assert (now.fence, now.owner, now.attempts) == (held.fence, held.owner, held.attempts)
        assert not (tmp_path / "jobs" / job_id).exists()
        house.release_hold()
        job = house.wait_for_status(job_id, "succeeded")
    idle.close()
    assert (job.fence, job.attempts) == (held.fence, 0)
    assert house.adapter_sha256(job_id) == house.unbroken_adapter_sha256(job_id)
