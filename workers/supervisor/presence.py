"""Makes a worker known: ends what its earlier life held, registers it, and says that it lives."""

import os
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from sqlalchemy.exc import SQLAlchemyError

from app.context import Context
from app.contracts.reports import Ready
from app.factory import Services
from app.logs import logger
from app.pool.service import WorkerCard
from workers.supervisor.engine_slot import EngineSlot
from workers.supervisor.identity import WorkerName
from workers.supervisor.workspace import lack_of_room


class Presence:
    """Beats from a thread of its own while its block runs, and at once when an engine is ready.

    `slot` is None for workers without an engine.
    """

    def __init__(self, context: Context, name: WorkerName, slot: EngineSlot | None) -> None:
        self._context = context
        self._name = name
        self._slot = slot
        self._left = threading.Event()
        self._news = slot.news if slot is not None else threading.Event()
        self._thread = threading.Thread(target=self._run, name="presence", daemon=True)
        self._has_released = False
        self._registered: Ready | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._left.set()
        self._news.set()
        self._thread.join(2.0)
        if self._registered is None:
            return
        try:
            with self._context.database.unit_of_work() as work:
                Services(self._context, work).pool.forget_worker(self._name.worker_id, self._name.incarnation)
        except SQLAlchemyError as error:
            logger.warning("the pool could not be told that this worker leaves: %s", str(error).splitlines()[0])

    def _run(self) -> None:
        while True:
            self._news.clear()
            if self._left.is_set():
                return
            try:
                self._step()
            except (SQLAlchemyError, OSError) as error:
                logger.warning("the pool could not be told that this worker lives: %s", str(error).splitlines()[0])
            self._news.wait(self._context.settings.heartbeat_seconds)

    def _step(self) -> None:
        """One unit of work: the first things that have not been done yet, or a beat."""
        name = self._name
        ready = self._slot.ready if self._slot is not None else None
        with self._context.database.unit_of_work() as work:
            services = Services(self._context, work)
            if not self._has_released:
                count = services.job_worker.release_previous(name.worker_id, name.incarnation)
                count += services.eval_worker.release_previous(name.worker_id, name.incarnation)
                if count:
                    logger.info("gave back %d jobs and runs of this worker's earlier life", count)
            if ready is not None and ready is not self._registered:
                services.pool.register_worker(self._card(ready))
            elif self._slot is not None and ready is not None:
                services.pool.heartbeat_worker(
                    name.worker_id,
                    name.incarnation,
                    resident_base=self._slot.resident_base,
                    bases=folders_of_bases(self._context.settings.bases_dir),
                    unready=lack_of_room(
                        self._context.settings.scratch_dir, self._context.settings.scratch_min_free_bytes
                    ),
                )
        self._has_released = True
        self._registered = ready or self._registered
        if self._slot is not None:
            self._slot.tell_known(self._registered)

    def _card(self, ready: Ready) -> WorkerCard:
        name = self._name
        return WorkerCard(
            worker_id=name.worker_id,
            incarnation=name.incarnation,
            host=name.host,
            device=ready.model_dump(exclude={"kind", "pid"}),
            gpus=ready.gpus,
            memory_bytes=ready.memory_bytes,
            compute_capability=ready.compute_capability,
            bases=folders_of_bases(self._context.settings.bases_dir),
        )


def folders_of_bases(bases_dir: Path) -> tuple[str, ...] | None:
    """Names of the bases on this machine's disk; None if the folder cannot be read, which a job will find out."""
    try:
        return tuple(sorted(entry.name for entry in os.scandir(bases_dir) if entry.is_dir()))
    except OSError as error:
        logger.warning("the folder of bases %s cannot be read: %s", bases_dir, error.strerror)
        return None
