"""The steps of one attempt at a job: data, training, evaluation, success; and what is kept when it is cut short."""

import math
import time
from pathlib import Path

from app.contracts.errors import WorkerFailure, fatal
from app.contracts.reports import Checkpoint, Encoded, Finished, Metric
from app.contracts.specs import AdapterRef, TrainSpec
from app.datasets.report import PreparedDataset
from app.jobs.states import JobPurpose
from app.jobs.worker_messages import TrainingTask
from app.logs import logger
from workers.supervisor import checkpoint_folder, evaluation_cost
from workers.supervisor.checkpoint_folder import CheckpointDamaged
from workers.supervisor.engine_run import EngineRun
from workers.supervisor.evaluation_step import EvaluationStep, Scored
from workers.supervisor.held_job import HeldJob
from workers.supervisor.publisher import Publisher
from workers.supervisor.run_watch import EndReason
from workers.supervisor.workspace import Workspace

_METRICS_SECONDS = 1.0
# With the engine's own grace this keeps a shutdown below 30 s.
_SHUTDOWN_UPLOAD_SECONDS = 8.0


class JobSteps:
    """Runs the steps in order. Whatever ends them early comes out as an exception; see `run_job`."""

    def __init__(
        self, held: HeldJob, task: TrainingTask, workspace: Workspace, publisher: Publisher, engine_run: EngineRun
    ) -> None:
        self._held = held
        self._task = task
        self._workspace = workspace
        self._publisher = publisher
        self._engine_run = engine_run
        self._run_id = f"{task.job_id}-{held.fence}"
        self._evaluation = EvaluationStep(held, task, engine_run, self._run_id)
        self._metrics: list[Metric] = []
        self._metrics_written_at = -math.inf  # the first one is written as it comes
        self._offered_steps: set[int] = set()
        self._reported: Checkpoint | None = None
        self._total_steps = 0
        self._resume: Path | None = None

    def run_all(self) -> None:
        """From the files to `succeeded`."""
        data = self._workspace.prepare(self._held.context)
        if self._task.purpose is JobPurpose.EVALUATION:
            self._evaluation.run(data, self._workspace.fetch_scored(self._held.context))
            self._succeed(trained_tokens=0)
            return
        finished = self._train(data)
        if data.heldout_rows > 0 and not self._task.has_evaluation:
            adapter = AdapterRef(id=self._task.job_id, path=finished.adapter_path, sha256=finished.adapter_sha256)
            self._evaluation.run(data, Scored(adapter))
        elif self._task.expectations and data.heldout_rows == 0:
            self._say("No rows are held out, so nothing is evaluated and no expectation is asked.", level="warn")
        while not self._publisher.drain(_METRICS_SECONDS):
            self._engine_run.watch.check()
        self._succeed(trained_tokens=finished.trained_tokens)

    def keep_value(self, reason: EndReason) -> bool:
        """Store the last checkpoint of a run cut short; whether nothing of worth is left on this disk alone."""
        try:
            last = self._last_checkpoint(reason)
            if last is not None:
                self._offer(last, as_model=True)
            is_stored = self._publisher.drain(_SHUTDOWN_UPLOAD_SECONDS if reason == "shutdown" else None)
        except (WorkerFailure, CheckpointDamaged) as error:
            logger.warning("the last checkpoint of job %s was not stored: %s", self._held.job_id, error)
            return False
        return is_stored or reason == "cancel"

    def _last_checkpoint(self, reason: EndReason) -> Checkpoint | None:
        """What a stop turns into a model: the newest state at a cancel, this attempt's own at a pause."""
        if reason == "pause":
            return self._reported
        folder = checkpoint_folder.newest(self._workspace.checkpoints) if reason == "cancel" else None
        return None if folder is None else checkpoint_folder.describe(folder, self._run_id, is_final=False)

    def _train(self, data: PreparedDataset) -> Finished:
        """Train, or only learn from the engine that an earlier attempt had finished."""
        spec = self._train_spec(data)
        try:
            for report in self._engine_run.reports(spec):
                match report:
                    case Encoded():
                        self._total_steps = report.total_steps
                        self._record_encoded(report)
                        self._announce_evaluation(data, report)
                        self._offer_forgotten()
                    case Metric():
                        self._metrics.append(report)
                    case Checkpoint():
                        self._record_metrics()
                        self._reported = report
                        self._offer(report, as_model=report.is_epoch_end or report.is_final)
                    case Finished():
                        self._record_metrics()
                        self._offer_result(report)
                        return report
                    case _:
                        pass
                if time.monotonic() - self._metrics_written_at >= _METRICS_SECONDS:
                    self._record_metrics()
        finally:
            self._record_metrics()
        raise fatal("protocol", "The engine ended a training run without its result.")

    def _announce_evaluation(self, data: PreparedDataset, encoded: Encoded) -> None:
        said = evaluation_cost.warning(
            self._task.recipe,
            heldout_rows=data.heldout_rows,
            train_rows=encoded.rows_trained,
            epochs=self._task.spec["n_epochs"],
        )
        if said is not None and self._resume is None:
            self._say(said)

    def _train_spec(self, data: PreparedDataset) -> TrainSpec:
        context = self._held.context
        parent = self._workspace.fetch_parent(context)
        self._resume = self._workspace.find_resume(context)
        return TrainSpec(
            run_id=self._run_id,
            base=self._task.base,
            train_rows=data.train_path,
            train_rows_sha256=data.train_sha256,
            valid_rows=data.heldout_path if self._task.validation_file is not None else None,
            selection_rows=data.selection_path,
            output_dir=str(self._workspace.output),
            resume_from=None if self._resume is None else str(self._resume),
            initial_adapter=parent,
            **self._task.spec,
        )

    def _offer_forgotten(self) -> None:
        """After a resumption: say so, and offer what an attempt that died had not brought to the store.

        Checkpoints are stored in their order, models before the resume checkpoint of the same step: what is newer
        than the stored resume checkpoint may be missing. The result has its own way. Of older epochs the engine may
        have removed the folders, or remove them now: they are lost with the attempt that had to store them.
        """
        if self._resume is None:
            return
        step = checkpoint_folder.step_of(self._resume)
        self._say(f"Resuming from the checkpoint of step {step}.")
        stored_step = self._task.resume_checkpoint.step if self._task.resume_checkpoint else 0
        # All figures up to a stored checkpoint were recorded before it.
        self._metrics += checkpoint_folder.metrics_between(self._resume, after_step=stored_step)
        self._record_metrics()
        for folder in checkpoint_folder.epoch_ends(self._resume):
            if stored_step < checkpoint_folder.step_of(folder) < self._total_steps:
                try:
                    forgotten = checkpoint_folder.describe(folder, self._run_id, is_final=False)
                except CheckpointDamaged as error:
                    logger.warning("%s was found and is gone: %s", folder.name, error)
                else:
                    self._offer(forgotten, as_model=True)
        if stored_step < step:
            self._publisher.offer(
                checkpoint_folder.describe(self._resume, self._run_id, is_final=False), as_model=False
            )

    def _offer_result(self, finished: Finished) -> None:
        """The adapter of the best step (or the last) under the job's final name, unless it is published or on its way.

        As an epoch's checkpoint it may have a name already.
        """
        if self._task.final_model_id is not None:
            return
        if finished.reason:
            self._say(finished.reason)
        if self._reported is None or not self._reported.is_final:
            folder = Path(finished.adapter_path).parent
            self._publisher.offer(checkpoint_folder.describe(folder, self._run_id, is_final=True), as_model=True)
            self._offered_steps.add(finished.step)

    def _offer(self, checkpoint: Checkpoint, *, as_model: bool) -> None:
        if checkpoint.step in self._offered_steps:
            return
        is_taken = self._publisher.offer(checkpoint, as_model=as_model)
        if as_model:
            self._offered_steps.add(checkpoint.step)
            if not is_taken:
                self._say(f"The checkpoint of step {checkpoint.step} could not be kept as a model.", level="warn")

    def _record_encoded(self, encoded: Encoded) -> None:
        self._held.write(lambda jobs: jobs.record_encoded(self._held.job_id, self._held.fence, encoded))

    def _succeed(self, *, trained_tokens: int) -> None:
        self._engine_run.watch.check()
        job_id, fence = self._held.job_id, self._held.fence
        self._held.write(lambda jobs: jobs.succeed(job_id, fence, trained_tokens=trained_tokens))

    def _say(self, message: str, *, level: str = "info") -> None:
        """Tell the job's owner."""
        self._held.write(lambda jobs: jobs.record_event(self._held.job_id, self._held.fence, message, level=level))

    def _record_metrics(self) -> None:
        """Write what has gathered, in one unit of work."""
        if self._metrics:
            self._metrics_written_at = time.monotonic()
            batch, self._metrics = self._metrics, []
            self._held.write(lambda jobs: jobs.record_metrics(self._held.job_id, self._held.fence, batch))
