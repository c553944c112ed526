"""What a claim hands to a worker, and what a worker hands back."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from app.contracts.requirements import Expectation
from app.contracts.specs import BaseRef, Recipe
from app.datasets.source import SourceFile
from app.datasets.tasks import Method, Task
from app.jobs.states import JobPurpose


class Directive(StrEnum):
    """The answer to a heartbeat."""

    CONTINUE = "continue"
    CANCEL = "cancel"
    PAUSE = "pause"
    PREEMPT = "preempt"
    FENCED = "fenced"


@dataclass(frozen=True)
class ValidationTask:
    """A job whose files are to be inspected. The lease runs as for training."""

    job_id: str
    fence: int
    team_id: str
    training_file: SourceFile
    validation_file: SourceFile | None
    task: Task | None
    """None: the rows are to tell."""
    method: Method
    wants_selection: bool
    """Whether rows are to be set apart that choose the best checkpoint and stop early."""


@dataclass(frozen=True)
class ParentAdapter:
    """The stored adapter a job continues from."""

    model_id: str
    archive_key: str
    archive_sha256: str
    adapter_sha256: str


@dataclass(frozen=True)
class ResumeCheckpoint:
    """The newest complete state of an earlier attempt, as an archive in the artifact store."""

    step: int
    archive_key: str
    sha256: str


@dataclass(frozen=True)
class TrainingTask:
    """A claimed job.

    `spec` holds the fields of `TrainSpec` that are no local paths: recipe, labels, lora, optimizer, batch_size,
    n_epochs, seed, max_length and so on.
    """

    job_id: str
    fence: int
    team_id: str
    base: BaseRef
    training_file: SourceFile
    validation_file: SourceFile | None
    parent: ParentAdapter | None
    """What the job continues from; of an evaluation, the model that is scored."""
    task: Task
    method: Method
    recipe: Recipe
    wants_selection: bool
    """As at inspection: the rows must be split in the same way."""
    spec: dict[str, Any]
    labels: tuple[str, ...] | None
    """Of a classification its head's; of chat the distinct answers, where they are labels."""
    is_multi_label: bool
    resume_checkpoint: ResumeCheckpoint | None
    attempts: int
    has_evaluation: bool
    """True if an earlier attempt already recorded the evaluation."""
    final_model_id: str | None
    """Set if an earlier attempt already published the final adapter."""
    purpose: JobPurpose = JobPurpose.TRAINING
    against: ParentAdapter | None = None
    """Of an evaluation: the model in the base's place."""
    expectations: tuple[Expectation, ...] = ()
    costs: dict[str, Any] | None = None
    """Of mistakes; of a classifier with one label a text."""


@dataclass(frozen=True)
class PublishedAdapter:
    """An adapter already in the artifact store: one archive (PEFT's format), with its hashes."""

    archive_key: str
    archive_sha256: str
    archive_bytes: int
    adapter_sha256: str
    files: dict[str, Any]
