import os
import threading
from dataclasses import replace
from pathlib import Path

from sqlalchemy import select

from app.db.tables import Worker
from tests.support.house import HOST, House
from workers.supervisor.engine_process import engine_environment
from workers.supervisor.engine_run import Patience
from workers.supervisor.engine_slot import EngineSlot
from workers.supervisor.identity import WorkerName
from workers.supervisor.presence import Presence
from workers.supervisor.round import train_round


def test_a_round_that_begins_before_the_pool_knows_its_worker_waits_and_trains(house: House, tmp_path: Path) -> None:
    job_id = house.submit()
    shutdown = threading.Event()
    name = WorkerName("gpu0", HOST)
    slot = EngineSlot(house.engine_command, engine_environment(os.environ, threads=1), tmp_path / "engine", shutdown)
    train = threading.Thread(
        target=train_round,
        args=(house.worker_context, name, slot),
        kwargs={"root": tmp_path / "jobs", "shutdown": shutdown, "patience": Patience()},
    )
    train.start()  # the only round there is: no bell and no second look will come
    try:
        house.wait_until(lambda: slot.ready is not None, "the engine is ready")
        assert not slot.is_known
        with Presence(house.worker_context, name, slot):
            house.wait_for_status(job_id, "succeeded")
    finally:
        shutdown.set()
        train.join()
        slot.close()


def test_a_worker_on_a_full_disk_lives_and_says_what_it_lacks(house: House, tmp_path: Path) -> None:
    greedy = house.context.settings.model_copy(update={"scratch_min_free_bytes": 10**18, "heartbeat_seconds": 0.05})
    shutdown = threading.Event()
    slot = EngineSlot(house.engine_command, engine_environment(os.environ, threads=1), tmp_path / "engine", shutdown)

    def unready() -> str | None:
        with house.context.database.unit_of_work() as work:
            return work.session.scalar(select(Worker.unready))

    with Presence(replace(house.context, settings=greedy), WorkerName("gpu0", HOST), slot):
        slot.ensure_ready()
        house.wait_until(lambda: unready() is not None, "the pool knows of the full disk")
        assert "TUNESMITH_SCRATCH_MIN_FREE_BYTES" in (unready() or "")
    slot.close()


def test_an_engine_that_becomes_ready_is_made_known_at_once(house: House, tmp_path: Path) -> None:
    hours = house.context.settings.model_copy(update={"heartbeat_seconds": 3600})
    context = replace(house.context, settings=hours)
    shutdown = threading.Event()
    slot = EngineSlot(house.engine_command, engine_environment(os.environ, threads=1), tmp_path / "engine", shutdown)
    with Presence(context, WorkerName("gpu0", HOST), slot):
        for _ in range(2):  # the second engine replaces a dead one
            slot.ensure_ready()
            assert slot.wait_until_known()
            slot.kill("the test wants another")
    slot.close()
