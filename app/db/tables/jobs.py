"""A job of the pool, which trains a model or scores one: what was asked, where it stands, who holds its lease."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, Created, Json


class Job(Base):
    __tablename__ = "jobs"
    __table_args__ = (
        Index("ix_jobs_team_created", "team_id", "created_at", "id"),
        Index("ix_jobs_team_claimed", "team_id", "claimed_at"),
        Index("ix_jobs_base_finished", "base_id", "finished_at"),
        Index("ix_jobs_leased", "lease_until", postgresql_where=text("owner IS NOT NULL")),
        Index(
            "ix_jobs_open",
            "status",
            "created_at",
            postgresql_where=text("status IN ('validating_files', 'queued', 'running')"),
        ),
        Index(
            "ix_jobs_waiting",
            "status",
            "team_id",
            "priority",
            "queued_at",
            "id",
            postgresql_where=text("status IN ('validating_files', 'queued', 'paused')"),
        ),
        Index(
            "ix_jobs_waiting_base",
            "base_id",
            "team_id",
            "priority",
            "queued_at",
            "id",
            postgresql_where=text("status = 'queued'"),
        ),
        Index(
            "ix_jobs_held_back",
            "team_id",
            postgresql_where=text("status = 'queued' AND (owner IS NOT NULL OR not_before IS NOT NULL)"),
        ),
        CheckConstraint(
            "status IN ('validating_files','queued','running','paused','succeeded','failed','cancelled')", name="status"
        ),
        CheckConstraint("purpose IN ('training', 'evaluation')", name="purpose"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    team_id: Mapped[str] = mapped_column(ForeignKey("teams.id"))
    created_by: Mapped[str]
    purpose: Mapped[str] = mapped_column(server_default="training", doc="training, or evaluation of the parent")
    status: Mapped[str]
    base_id: Mapped[str] = mapped_column(ForeignKey("base_models.id"))
    parent_model_id: Mapped[str | None] = mapped_column(ForeignKey("tuned_models.id"))
    parent_adapter: Mapped[Json | None] = mapped_column(doc="where the parent's adapter lies, with its hashes")
    against_model_id: Mapped[str | None] = mapped_column(
        ForeignKey("tuned_models.id"), doc="of an evaluation: the earlier model in the base's place"
    )
    against_adapter: Mapped[Json | None] = mapped_column(doc="as `parent_adapter`")
    training_file: Mapped[str]
    validation_file: Mapped[str | None]
    suffix: Mapped[str | None]
    seed: Mapped[int]
    priority: Mapped[int] = mapped_column(server_default="0", doc="within the team: -1 low, 0 normal, 1 high")
    task: Mapped[str | None] = mapped_column(doc="as on the wire; NULL until the rows have told")
    method: Mapped[Json] = mapped_column(
        doc="normalised to {type, <type>: {hyperparameters}}; of dpo with its beta, 'auto' until validated"
    )
    hyperparameters: Mapped[Json] = mapped_column(doc="as on the wire: 'auto' until validated, then numbers")
    training: Mapped[Json | None] = mapped_column(
        doc="our block of the wire: 'auto' until validated, then numbers; NULL for jobs older than it"
    )
    requirements: Mapped[str | None] = mapped_column(Text, doc="the sheet the tuned model is judged by")
    expectations: Mapped[list[Any] | None] = mapped_column(doc="the users' own examples, put to the tuned model")
    costs: Mapped[Json | None] = mapped_column(JSONB(none_as_null=True), doc="of mistakes, as on the wire")
    user_metadata: Mapped[Json | None] = mapped_column("metadata", JSONB(none_as_null=True))
    integrations: Mapped[list[Any] | None]
    dataset_report: Mapped[Json | None] = mapped_column(doc="what inspection found: rows, labels, split, warnings")
    spec: Mapped[Json | None] = mapped_column(
        doc="the settings of the run, fixed at validation: lora, optimizer, lengths"
    )
    error: Mapped[Json | None]
    encoding: Mapped[Json | None] = mapped_column(doc="the engine's Encoded report: what became of every row")
    evaluation: Mapped[Json | None] = mapped_column(doc="the engine's Evaluation report")
    trained_tokens: Mapped[int | None] = mapped_column(BigInteger)
    usage: Mapped[Json | None] = mapped_column(doc="of all ended attempts: gpu_seconds, energy_wh, tokens, cost")
    estimate: Mapped[Json | None] = mapped_column(doc="what the job was expected to use, as said at its submission")
    tuned_model_id: Mapped[str | None]
    result_file_id: Mapped[str | None]
    created_at: Mapped[Created]
    started_at: Mapped[datetime | None] = mapped_column(doc="when a worker first began to train")
    claimed_at: Mapped[datetime | None] = mapped_column(doc="when a worker last began to train")
    finished_at: Mapped[datetime | None]
    estimated_finish: Mapped[datetime | None]
    # What the pool decides by.
    queued_at: Mapped[Created] = mapped_column(doc="since when it waits: its creation, or the last time it made way")
    memory_bytes: Mapped[int | None] = mapped_column(BigInteger, doc="at least, on any device; NULL: not known")
    compute_capability: Mapped[int | None] = mapped_column(doc="at least, 80 for 8.0; NULL: any device")
    overtaken: Mapped[int] = mapped_column(
        server_default="0", doc="times a worker took a job of the base it held first"
    )
    preempt_reason: Mapped[str | None] = mapped_column(Text, doc="why its worker shall checkpoint and let go of it")
    preempted_at: Mapped[datetime | None] = mapped_column(doc="when it last made way")
    riding: Mapped[Json | None] = mapped_column(
        JSONB(none_as_null=True), doc="what sharing a process with others depends on; NULL: it rides alone"
    )
    losses: Mapped[int] = mapped_column(server_default="0", doc="claims that ended with the loss of the worker")
    # The lease. Every write of a worker carries `WHERE id AND fence`; the fence only grows.
    fence: Mapped[int] = mapped_column(BigInteger, server_default="0")
    owner: Mapped[str | None] = mapped_column(doc="worker_id/incarnation of the lease's holder; NULL = nobody")
    lease_until: Mapped[datetime | None]
    attempts: Mapped[int] = mapped_column(server_default="0", doc="claims that ended in a crash")
    not_before: Mapped[datetime | None] = mapped_column(doc="back-off after a crash")
    resume_checkpoint: Mapped[Json | None] = mapped_column(
        doc="{step, archive_key, sha256} of the newest complete state"
    )
