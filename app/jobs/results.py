"""What a run yields: metrics, checkpoints, the result file."""

import csv
import io
from typing import Any

from app.contracts.reports import Metric
from app.db.engine import UnitOfWork
from app.db.tables import CheckpointRow, Job
from app.files.service import FileService
from app.ids import Prefix, new_id
from app.jobs import event_texts
from app.jobs.event_texts import WIRE_FIGURES
from app.jobs.ledger import JobLedger
from app.jobs.repository import JobRepository
from app.jobs.states import Status
from app.jobs.worker_messages import PublishedAdapter
from app.registry.service import RegistryService, Tuned

# Column of the file -> figure. The names are OpenAI's.
_COLUMNS = {
    "step": "step",
    "train_loss": "train_loss",
    "train_accuracy": "train_mean_token_accuracy",
    "valid_loss": "valid_loss",
    "valid_mean_token_accuracy": "valid_mean_token_accuracy",
}


class JobResults:
    """Expects the job's row to be locked and its lease to be held."""

    def __init__(
        self,
        work: UnitOfWork,
        repository: JobRepository,
        ledger: JobLedger,
        files: FileService,
        registry: RegistryService,
    ) -> None:
        self._work = work
        self._repository = repository
        self._ledger = ledger
        self._files = files
        self._registry = registry

    def record_metrics(self, job: Job, metrics: list[Metric]) -> None:
        """Upserts by step; one metrics event for each step that is new."""
        for metric in metrics:
            figures = event_texts.figures(metric)
            if self._repository.upsert_metric(job.id, metric.step, figures):
                data = {name: figures.get(name) for name in WIRE_FIGURES}
                self._ledger.say(job, event_texts.step(metric), type_="metrics", data=data)
        if metrics:
            last = metrics[-1]
            job.trained_tokens = last.trained_tokens
            if job.status == Status.RUNNING:
                job.estimated_finish = self._repository.now_plus(max(0.0, last.eta_seconds))

    def publish(
        self, job: Job, actor: str, step: int, adapter: PublishedAdapter, metric: Metric | None, *, is_final: bool
    ) -> str:
        """The adapter's model id; registered once for each step, and once more if it turns out to be the final one."""
        existing = self._repository.find_checkpoint(job.id, step)
        if existing is not None and not is_final:
            return existing.model_id
        model = self._registry.register(
            team_id=job.team_id,
            actor=actor,
            base_id=job.base_id,
            job_id=job.id,
            suffix=job.suffix,
            step=step,
            is_final=is_final,
            archive_key=adapter.archive_key,
            archive_sha256=adapter.archive_sha256,
            archive_bytes=adapter.archive_bytes,
            adapter_sha256=adapter.adapter_sha256,
            files=adapter.files,
            tuned=_tuned(job),
        )
        metrics = _checkpoint_metrics(step, metric)
        if existing is None:
            self._repository.add_checkpoint(
                CheckpointRow(
                    id=new_id(Prefix.CHECKPOINT), job_id=job.id, step=step, model_id=model.id, metrics=metrics
                )
            )
            self._ledger.say(job, event_texts.checkpoint_created(step, model.id), data={"step": step})
        else:
            existing.model_id = model.id
        if is_final:
            job.tuned_model_id = model.id
        return model.id

    def write_result_file(self, job: Job, actor: str) -> str:
        """The figures of every step as CSV; the file's id. Figures are numbers, so no cell can be a formula."""
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for row in self._repository.metrics(job.id):
            writer.writerow([row.figures.get(figure, "") for figure in _COLUMNS.values()])
        file = self._files.create_from_stream(
            job.team_id,
            actor,
            iter([text.getvalue().encode()]),
            filename="step_metrics.csv",
            purpose="fine-tune-results",
        )
        return file.id


def _tuned(job: Job) -> Tuned:
    """What the job's models do. Jobs of older versions say nothing, and are chat."""
    spec = job.spec or {}
    labels = spec.get("labels")
    return Tuned(
        recipe=spec.get("recipe", "chat"),
        labels=None if labels is None else tuple(labels),
        is_multi_label=spec.get("is_multi_label", False),
        tuning=spec.get("tuning", "adapter"),
    )


def _checkpoint_metrics(step: int, metric: Metric | None) -> dict[str, Any]:
    if metric is None:
        return {"step": step}
    figures = event_texts.figures(metric)
    return {"step": step, **{name: figures[name] for name in WIRE_FIGURES if name in figures}}
