"""One claimed job from its inputs to its end, and the end written down."""

import threading
from pathlib import Path

from app.contracts.errors import WorkerFailure, storage_failure, transient
from app.jobs.worker_messages import TrainingTask
from app.logs import logger
from workers.supervisor.checkpoint_folder import CheckpointDamaged
from workers.supervisor.engine_process import EngineLost, EngineProcess
from workers.supervisor.engine_run import EngineRun, Patience
from workers.supervisor.heartbeat import Heartbeat
from workers.supervisor.held_job import HeldJob
from workers.supervisor.job_steps import JobSteps
from workers.supervisor.lease import LeaseLost
from workers.supervisor.publisher import Publisher
from workers.supervisor.run_watch import Interrupted, RunWatch
from workers.supervisor.workspace import Workspace

_LAST_UPLOAD_SECONDS = 10.0


def run_job(
    held: HeldJob,
    task: TrainingTask,
    engine: EngineProcess,
    *,
    root: Path,
    shutdown: threading.Event,
    patience: Patience,
) -> None:
    """Run `task` to whatever end it takes. Only bugs raise; the lease then runs out by itself."""
    workspace = Workspace(root, task)
    with (
        engine.seat(held.job_id),
        RunWatch(engine, held.lease, shutdown) as watch,
        Heartbeat(held, watch.demand),
    ):
        try:
            is_over = _attempt(held, task, workspace, engine, EngineRun(engine, watch, patience))
        except LeaseLost as lost:
            logger.warning("job %s is not ours any more: %s", held.job_id, lost)
            is_over = False
    if is_over:
        workspace.remove()


def _attempt(
    held: HeldJob, task: TrainingTask, workspace: Workspace, engine: EngineProcess, engine_run: EngineRun
) -> bool:
    """One attempt; whether the scratch folder has served its purpose."""
    job_id, fence = held.job_id, held.fence
    try:
        workspace.open()
        with Publisher(held, task, workspace.staging) as publisher:
            return _run_steps(held, JobSteps(held, task, workspace, publisher, engine_run), publisher)
    except EngineLost as lost:
        if engine.is_shared:
            said = str(lost)
            held.write(lambda jobs: jobs.lose_shared(job_id, fence, said))
            return False
        failure = transient(lost.code, str(lost))
    except CheckpointDamaged as damage:
        failure = transient("checkpoint_damaged", str(damage))
    except WorkerFailure as failed:
        failure = failed
    except OSError as fault:
        logger.exception("the attempt ended with a fault of a disk or of the artifact store")
        what = fault.strerror or type(fault).__name__
        failure = storage_failure(fault, "disk_failed", f"A disk of the worker or the artifact store failed: {what}.")
    held.write(lambda jobs: jobs.fail(job_id, fence, failure.error))
    return failure.error.kind != "transient"


def _run_steps(held: HeldJob, steps: JobSteps, publisher: Publisher) -> bool:
    """The steps to the end, or to a stop that somebody wished for."""
    try:
        steps.run_all()
    except Interrupted as interruption:
        is_kept = steps.keep_value(interruption.reason)
        is_crowded = interruption.reason == "crowded"
        held.write(lambda jobs: jobs.release(held.job_id, held.fence, is_crowded=is_crowded))
        if interruption.reason == "cancel":
            publisher.forget_resume()
        return is_kept
    except EngineLost:
        publisher.drain(_LAST_UPLOAD_SECONDS)  # what was reported before the engine died is good
        raise
    publisher.forget_resume()
    return True
