"""From a claimed row to a worker's task, and from an inspected dataset to a queued job."""

from dataclasses import asdict
from typing import Any

from app.bases.schemas import base_kind
from app.bases.service import BaseService
from app.bases.tasks import misfit
from app.contracts.costs import Costs
from app.contracts.errors import WorkerError
from app.contracts.requirements import Expectation
from app.contracts.specs import Recipe
from app.datasets.report import DatasetReport, FileReport, Split
from app.datasets.source import SourceFile
from app.datasets.tasks import Task, task_of
from app.db.tables import BaseModelRow, Job
from app.files.service import FileService
from app.jobs import event_texts
from app.jobs.ending import JobEndings
from app.jobs.estimates import EstimateObject, JobEstimates, Plan
from app.jobs.evaluable import check_evaluable
from app.jobs.footprint import least_compute_capability, least_memory_bytes
from app.jobs.hyperparameters import Resolved, RunFacts, resolve
from app.jobs.ledger import JobLedger
from app.jobs.parents import Unsuited, check_recipe, head_labels
from app.jobs.repository import JobRepository
from app.jobs.riding import ride_of
from app.jobs.states import Event, JobPurpose
from app.jobs.training_spec import training_spec
from app.jobs.unusual import unusual
from app.jobs.worker_messages import ParentAdapter, ResumeCheckpoint, TrainingTask, ValidationTask
from app.pool.service import PoolService
from app.usage.budgets import BudgetService

# A slow machine parses more than this.
_READ_BYTES_PER_SECOND = 1_000_000


class JobClaims:
    """Expects the job's row to be locked and its lease to be held."""

    def __init__(  # noqa: PLR0917 - called in one place
        self,
        repository: JobRepository,
        ledger: JobLedger,
        endings: JobEndings,
        files: FileService,
        bases: BaseService,
        estimates: JobEstimates,
        pool: PoolService,
        budgets: BudgetService,
    ) -> None:
        self._repository = repository
        self._ledger = ledger
        self._endings = endings
        self._files = files
        self._bases = bases
        self._estimates = estimates
        self._pool = pool
        self._budgets = budgets

    def validation_task(self, job: Job, *, lease_seconds: float) -> ValidationTask:
        """`NotFound` if a file is gone."""
        task = ValidationTask(
            job_id=job.id,
            fence=job.fence,
            team_id=job.team_id,
            training_file=self._source(job.team_id, job.training_file, "training_file"),
            validation_file=self._optional_source(job),
            task=None if job.task is None else Task(job.task),
            method=job.method["type"],
            wants_selection=_wants_selection(job),
        )
        sizes = [task.training_file.bytes, 0 if task.validation_file is None else task.validation_file.bytes]
        self._repository.extend_lease(job.id, job.fence, lease_seconds + sum(sizes) / _READ_BYTES_PER_SECOND)
        return task

    def finish_validation(self, job: Job, actor: str, report: DatasetReport) -> None:
        """Queued with its numbers fixed, or failed with every listed fault as an event."""
        job.dataset_report = report.model_dump(mode="json")
        if report.error is not None:
            self._say_faults(job, report)
            error = WorkerError(
                kind="usage", code=report.error.code, message=report.error.message, param=report.error.param
            )
            self._endings.fail(job, actor, error)
            return
        try:
            if job.purpose == JobPurpose.EVALUATION:
                check_evaluable(job, report)
            else:
                self._fix_numbers(job, report)
        except Unsuited as error:
            param = "file" if job.purpose == JobPurpose.EVALUATION else "training_file"
            unsuited = WorkerError(kind="usage", code="unsupported_task", message=str(error), param=param)
            self._endings.fail(job, actor, unsuited)
            return
        self._fix_needs(job)
        problem = _costs_problem(job) if job.purpose == JobPurpose.TRAINING else None
        if problem is not None:
            misfit_of_costs = WorkerError(kind="usage", code="costs_misfit", message=problem, param="costs")
            self._endings.fail(job, actor, misfit_of_costs)
            return
        for warning in report.warnings if job.purpose == JobPurpose.TRAINING else ():
            self._ledger.say(job, warning, level="warn")
        self._ledger.apply(job, Event.VALIDATE, actor, event_texts.QUEUED, sha256=report.training.sha256)
        self._endings.free(job)

    def training_task(self, job: Job) -> TrainingTask:
        """`NotFound` if a file or the base is gone."""
        report = DatasetReport.model_validate(job.dataset_report)
        resume = job.resume_checkpoint
        spec = dict(job.spec or {})
        recipe: Recipe = spec.get("recipe", "chat")
        labels = spec.get("labels")
        return TrainingTask(
            job_id=job.id,
            fence=job.fence,
            team_id=job.team_id,
            base=self._bases.ref(self._bases.get(job.base_id)),
            training_file=self._source(job.team_id, job.training_file, "training_file"),
            validation_file=self._optional_source(job),
            parent=_adapter(job.parent_adapter),
            task=task_of(recipe),
            method=job.method["type"],
            recipe=recipe,
            wants_selection=report.split is not None and report.split.selection_rows > 0,
            spec=spec,
            labels=report.labels if labels is None else tuple(labels),
            is_multi_label=spec.get("is_multi_label", False),
            resume_checkpoint=None if resume is None else ResumeCheckpoint(**resume),
            attempts=job.attempts,
            has_evaluation=job.evaluation is not None,
            final_model_id=job.tuned_model_id,
            purpose=JobPurpose(job.purpose),
            against=_adapter(job.against_adapter),
            expectations=tuple(Expectation.model_validate(one) for one in job.expectations or ()),
            costs=job.costs,
        )

    def _fix_numbers(self, job: Job, report: DatasetReport) -> None:
        """Everything that decides the run, with its reasons; `Unsuited` if base or parent cannot learn the rows."""
        assert report.split is not None  # noqa: S101 - a report without error has a split
        base = self._bases.get(job.base_id)
        recipe: Recipe = report.recipe or "chat"
        problem = misfit(recipe, base_kind(base), base.id)
        if problem is not None:
            raise Unsuited(problem)
        labels, is_multi_label = report.labels, report.is_multi_label
        if job.parent_adapter is not None:
            check_recipe(job.parent_adapter, recipe)
            labels, is_multi_label = head_labels(job.parent_adapter, labels, is_multi_label=is_multi_label)
        facts = RunFacts(
            recipe=recipe,
            kind=base_kind(base),
            base_parameters=base.parameters,
            context_length=base.context_length,
            train_rows=report.split.train_rows,
            choosing_rows=_choosing_rows(report.split),
            parent=_adapted(job),
        )
        requested = job.method[job.method["type"]]["hyperparameters"]
        resolved = resolve(requested, job.training or {}, facts)
        job.task = task_of(recipe)
        job.hyperparameters = resolved.on_wire()
        job.training = resolved.training
        if resolved.beta is not None:
            job.method = {"type": "dpo", "dpo": {"hyperparameters": {**resolved.on_wire(), "beta": resolved.beta}}}
        job.spec = training_spec(
            resolved,
            facts,
            seed=job.seed,
            labels=labels if recipe.endswith("_classification") else None,
            is_multi_label=is_multi_label,
        )
        self._refine_estimate(job, base, report, resolved)
        for reason in resolved.reasons:
            self._ledger.say(job, reason)
        for warning in unusual(resolved, facts):
            self._ledger.say(job, warning, level="warn")
        # Attempts lost on reading files say nothing about training.
        job.attempts = 0
        job.losses = 0

    def _fix_needs(self, job: Job) -> None:
        """Which workers it is not tried on."""
        base, spec = self._bases.get(job.base_id), job.spec or {}
        job.memory_bytes = least_memory_bytes(base.parameters, spec, trains=job.purpose == JobPurpose.TRAINING)
        job.compute_capability = least_compute_capability(spec)
        if job.purpose == JobPurpose.TRAINING:
            ride = ride_of(spec, EstimateObject.model_validate(job.estimate), parameters=base.parameters)
            job.riding = None if ride is None else asdict(ride)

    def _refine_estimate(self, job: Job, base: BaseModelRow, report: DatasetReport, resolved: Resolved) -> None:
        """Now that rows and steps are known."""
        assert report.split is not None  # noqa: S101 - as above
        plan = Plan(
            model_id=job.parent_model_id or job.base_id,
            base=base,
            file_bytes=report.training.bytes,
            requested={},
            training=resolved.training,
            based_on="validated_files",
            rows=report.split.train_rows,
            row_share=report.split.train_rows / max(1, report.training.examples),
            resolved=resolved,
        )
        estimate = self._estimates.make(plan, self._pool.live_devices())
        job.estimate = estimate.model_dump(mode="json")
        cost = None if estimate.cost is None else estimate.cost.value
        self._budgets.refine(job.team_id, job.id, estimate.gpu_seconds, cost)

    def _say_faults(self, job: Job, report: DatasetReport) -> None:
        for file, name in ((report.training, "Training"), (report.validation, "Validation")):
            if file is None or not file.faults:
                continue
            for fault in file.faults:
                self._ledger.say(
                    job,
                    f"{name} file {file.file_id}: {fault.message}",
                    level="error",
                    data={"line": fault.line, "check": fault.check},
                )
            self._ledger.say(job, _summary(name, file), level="error", data={"counts": file.fault_counts})

    def _source(self, team_id: str, file_id: str, param: str) -> SourceFile:
        file = self._files.get(team_id, file_id, param=param)
        return SourceFile(
            file_id=file.id,
            filename=file.filename,
            bytes=file.bytes,
            sha256=file.sha256,
            artifact_key=file.artifact_key,
        )

    def _optional_source(self, job: Job) -> SourceFile | None:
        if job.validation_file is None:
            return None
        return self._source(job.team_id, job.validation_file, "validation_file")


def _choosing_rows(split: Split) -> int:
    """Rows to choose the best checkpoint by: those set apart for it, else those of a validation file."""
    if split.selection_rows > 0:
        return split.selection_rows
    return split.heldout_rows if split.method == "validation_file" else 0


def _wants_selection(job: Job) -> bool:
    """Unless the last step is to be the result whatever comes: then every row may train."""
    settings = job.training or {}
    return not (settings.get("early_stopping") is False and settings.get("keeps_best") is False)


def _costs_problem(job: Job) -> str | None:
    """Why the job's costs cannot be those of its rows."""
    spec = job.spec or {}
    if job.costs is None:
        return None
    if spec["recipe"] != "text_classification" or spec["is_multi_label"]:
        return "costs are for text classification with one label a text, which these rows are not; leave them out."
    return Costs.model_validate(job.costs).problem(spec["labels"])


def _adapted(job: Job) -> dict[str, Any] | None:
    """How the parent was adapted; jobs of older versions did not write it down."""
    parent = job.parent_adapter
    return None if parent is None else {"tuning": parent.get("tuning", "adapter"), "lora": parent.get("lora")}


def _adapter(stored: dict[str, Any] | None) -> ParentAdapter | None:
    if stored is None:
        return None
    return ParentAdapter(
        **{name: stored[name] for name in ("model_id", "archive_key", "archive_sha256", "adapter_sha256")}
    )


def _summary(name: str, file: FileReport) -> str:
    counts = ", ".join(f"{count} {check}" for check, count in sorted(file.fault_counts.items()))
    listed = f"; the first {len(file.faults)} are listed" if file.fault_count > len(file.faults) else ""
    return f"{name} file {file.file_id} has {file.fault_count} fault(s) in {file.examples} examples: {counts}{listed}"
