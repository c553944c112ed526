"""The evaluation of one attempt, after training or on demand: what is scored, its progress, its result written down."""

import time
from dataclasses import dataclass

from app.contracts.costs import Costs
from app.contracts.errors import fatal
from app.contracts.reports import Evaluation, Progress
from app.contracts.specs import AdapterRef, EvalSpec
from app.datasets.report import PreparedDataset
from app.jobs.worker_messages import TrainingTask
from workers.supervisor.engine_run import EngineRun
from workers.supervisor.held_job import HeldJob

# Labels cost milliseconds: enough of them for an interval of the 95th percentile.
_LATENCY_ROWS = {"text_classification": 100, "token_classification": 100}
_PROGRESS_SECONDS = 2.0


@dataclass(frozen=True)
class Scored:
    """The adapter that is scored, and the earlier one in the base's place, if any; both on local disk."""

    adapter: AdapterRef
    against: AdapterRef | None = None


class EvaluationStep:
    """Scores on the engine of this attempt, which has the base in memory."""

    def __init__(self, held: HeldJob, task: TrainingTask, engine_run: EngineRun, run_id: str) -> None:
        self._held = held
        self._task = task
        self._engine_run = engine_run
        self._run_id = run_id

    def run(self, data: PreparedDataset, scored: Scored) -> None:
        """From the held-out rows to the recorded evaluation, with an event of the progress every two seconds."""
        beside = "base" if scored.against is None else scored.against.id
        self._say(f"Evaluating {beside} and tuned model on {data.heldout_rows} held-out rows.")
        told_at = time.monotonic()
        found: Evaluation | None = None
        for report in self._engine_run.reports(self._spec(data, scored)):
            match report:
                case Evaluation():
                    found = report
                case Progress() if time.monotonic() - told_at >= _PROGRESS_SECONDS:
                    told_at = time.monotonic()
                    self._tell(report)
                case _:
                    pass
        if found is None:
            raise fatal("protocol", "The engine ended an evaluation without its result.")
        result = found
        self._held.write(lambda jobs: jobs.record_evaluation(self._held.job_id, self._held.fence, result))

    def _spec(self, data: PreparedDataset, scored: Scored) -> EvalSpec:
        task = self._task
        is_alone = task.validation_file is not None and task.validation_file.file_id == task.training_file.file_id
        return EvalSpec(
            run_id=f"{self._run_id}-evaluation",
            base=task.base,
            adapter=scored.adapter,
            against=scored.against,
            recipe=task.recipe,
            is_multi_label=task.is_multi_label,
            dpo=task.spec.get("dpo"),
            rows=data.heldout_path,
            train_rows=None if is_alone else data.train_path,
            # Where the training rows are not at hand, rows stand beside themselves: that says nothing of them.
            leaked_lines=() if is_alone else data.leaked_lines,
            calibration_rows=None if is_alone else data.selection_path,
            latency_rows=_LATENCY_ROWS.get(task.recipe, EvalSpec.model_fields["latency_rows"].default),
            expectations=task.expectations,
            labels=task.labels,
            costs=None if task.costs is None else Costs.model_validate(task.costs),
            max_length=task.spec["max_length"],
            seed=task.spec["seed"],
        )

    def _tell(self, progress: Progress) -> None:
        if progress.phase == "evaluate":
            figures = {"phase": "evaluate", "done": progress.done, "total": progress.total}
            self._say(f"Evaluation: {progress.done} of {progress.total} parts done ({progress.message}).", figures)

    def _say(self, message: str, data: dict[str, object] | None = None) -> None:
        self._held.write(lambda jobs: jobs.record_event(self._held.job_id, self._held.fence, message, data=data))
