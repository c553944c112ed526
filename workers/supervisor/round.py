"""Claim, run, next, until there is no work."""

import threading
import time
from functools import partial
from pathlib import Path

from app import retention
from app.context import Context
from app.factory import Services
from app.jobs.worker_messages import TrainingTask
from app.logs import bind, logger
from workers.supervisor.engine_run import Patience
from workers.supervisor.engine_slot import EngineSlot
from workers.supervisor.held_job import HeldJob, HeldRun
from workers.supervisor.identity import WorkerName
from workers.supervisor.inspect_job import inspect_job
from workers.supervisor.lease import Lease
from workers.supervisor.riders import Riders
from workers.supervisor.run_job import run_job
from workers.supervisor.score_run import Scoring, score_run
from workers.supervisor.workspace import lack_of_room, sweep

_SEAT_LOOK_SECONDS = 2.0


def train_round(
    context: Context,
    name: WorkerName,
    slot: EngineSlot,
    *,
    root: Path,
    shutdown: threading.Event,
    patience: Patience,
    look_seconds: float = _SEAT_LOOK_SECONDS,
) -> None:
    """Train one job after the other, small ones of one base beside each other as far as there are seats.

    Nothing is claimed before an engine is ready for it, and the pool knows it. `look_seconds`: how often a job is
    looked for that may ride beside those that run.
    """
    with Riders(context.settings.seats_per_worker) as riders:
        while not shutdown.is_set():
            if not riders.job_ids:
                engine = slot.ensure_ready()
                if not slot.wait_until_known():
                    return
            elif not riders.has_room or not engine.is_alive():
                riders.wait()
                continue
            lack = lack_of_room(root, context.settings.scratch_min_free_bytes)
            if lack is not None:
                logger.error("no job is claimed. %s", lack)
                return
            asked_at = time.monotonic()
            task = _claim(context, name, beside=bool(riders.job_ids))
            if task is not None:
                sweep(root, keep={task.job_id, *riders.job_ids})
                held = HeldJob(
                    context, task.job_id, task.fence, Lease(context.settings.lease_seconds, granted_at=asked_at)
                )
                run = partial(run_job, held, task, engine, root=root, shutdown=shutdown, patience=patience)
                riders.begin(task.job_id, run)
            elif riders.job_ids:
                riders.wait(look_seconds)
            else:
                return


def _claim(context: Context, name: WorkerName, *, beside: bool) -> TrainingTask | None:
    """The next job for this worker; `beside` those it runs, one that may share the engine with them."""
    with context.database.unit_of_work() as work:
        jobs = Services(context, work).job_worker
        task = jobs.claim_companion(name.owner) if beside else jobs.claim_training(name.owner)
    if task is not None:
        logger.info("claimed job %s with fence %d, attempt %d", task.job_id, task.fence, task.attempts + 1)
    return task


def cpu_round(context: Context, name: WorkerName, shutdown: threading.Event, scoring: Scoring) -> None:
    """Inspect what waits, then score one run for a while, and again: a long run holds no job up."""
    while not shutdown.is_set():
        inspect_round(context, name, shutdown)
        if shutdown.is_set():
            return
        asked_at = time.monotonic()
        with context.database.unit_of_work() as work:
            task = Services(context, work).eval_worker.claim(name.owner)
        if task is None:
            return
        logger.info("claimed eval run %s with fence %d", task.run_id, task.fence)
        lease = Lease(context.settings.lease_seconds, granted_at=asked_at)
        score_run(HeldRun(context, task.run_id, task.fence, lease), task, scoring, shutdown)


def inspect_round(context: Context, name: WorkerName, shutdown: threading.Event) -> None:
    """Inspect the files of one job after the other."""
    while not shutdown.is_set():
        asked_at = time.monotonic()
        with context.database.unit_of_work() as work:
            task = Services(context, work).job_worker.claim_validation(name.owner)
        if task is None:
            return
        bind(job_id=task.job_id)
        lease = Lease(context.settings.lease_seconds, granted_at=asked_at)
        inspect_job(HeldJob(context, task.job_id, task.fence, lease), task)


class ControlRounds:
    """End expired leases and ring for what waits; now and then remove what is due.

    Several control workers do no harm: one acts at a time.
    """

    def __init__(
        self, context: Context, *, sweep_period_seconds: float = 60.0, budget_period_seconds: float = 10.0
    ) -> None:
        self._context = context
        self._sweep_period_seconds = sweep_period_seconds
        self._budget_period_seconds = budget_period_seconds
        self._swept_at: float | None = None
        self._budgeted_at: float | None = None

    def run(self) -> None:
        with self._context.database.unit_of_work() as work:
            services = Services(self._context, work)
            ended = services.job_worker.tick()
            services.eval_worker.ring_waiting()
        with self._context.database.unit_of_work() as work:
            if Services(self._context, work).job_worker.make_way():
                logger.info("a running job was asked to make way")
        if ended > 0:
            logger.warning("%d leases had run out", ended)
        now = time.monotonic()
        if self._budgeted_at is None or now - self._budgeted_at >= self._budget_period_seconds:
            self._budgeted_at = now
            self._enforce_budgets()
        if self._swept_at is None or now - self._swept_at >= self._sweep_period_seconds:
            self._swept_at = now
            retention.sweep(self._context)

    def _enforce_budgets(self) -> None:
        with self._context.database.unit_of_work() as work:
            stopped = Services(self._context, work).job_worker.enforce_budgets()
        if stopped > 0:
            logger.warning("%d jobs were paused by their teams' budgets", stopped)
