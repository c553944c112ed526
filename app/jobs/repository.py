"""All SQL of jobs, their events, metrics and checkpoints."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, bindparam, func, literal_column, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session
from sqlalchemy.sql.functions import Function

from app.db.base import Json
from app.db.keyset import Page, fetch_page
from app.db.look import Question
from app.db.scope import across_teams
from app.db.tables import CheckpointRow, GpuLease, Job, JobEvent, JobMetric
from app.ids import Prefix, new_id
from app.jobs.states import JobPurpose
from app.usage.forecast import EarlierJob

_EARLIER_JOBS = 30
# So many of a base are looked through for them: however many others it has, a submit costs the same.
_LOOKED_THROUGH = 300
# Built once: most requests begin with it.
_FIND = select(Job).where(
    Job.id == bindparam("job_id"), Job.team_id == bindparam("team_id"), Job.purpose == bindparam("purpose")
)

FIND_TRAINING = Question(Job, (Job.id == bindparam("job_id")) & (Job.purpose == JobPurpose.TRAINING))
FIND_EVALUATION = Question(Job, (Job.id == bindparam("evaluation_id")) & (Job.purpose == JobPurpose.EVALUATION))
"""By the parameter of a request's path."""


def _earlier() -> Select[Any]:
    last = (
        select(Job.id)
        .where(Job.base_id == bindparam("base_id"), Job.finished_at.is_not(None))
        .order_by(Job.finished_at.desc())
        .limit(_LOOKED_THROUGH)
    )
    report, split = Job.dataset_report, Job.dataset_report["split"]
    device = (
        select(GpuLease.device_kind)
        .where(GpuLease.job_id == Job.id)
        .order_by(GpuLease.fence.desc())
        .limit(1)
        .scalar_subquery()
    )
    return (
        select(
            report["training"]["bytes"].as_integer(),
            report["training"]["examples"].as_integer(),
            split["train_rows"].as_integer(),
            Job.encoding["tokens"].as_integer(),
            Job.trained_tokens,
            Job.usage["gpu_seconds"].as_float(),
            device,
        )
        .where(
            Job.id.in_(last),
            Job.purpose == JobPurpose.TRAINING,
            Job.status == "succeeded",
            Job.attempts == 0,
            Job.usage.is_not(None),
            Job.encoding.is_not(None),
        )
        .order_by(Job.finished_at.desc())
        .limit(_EARLIER_JOBS)
    )


_EARLIER = _earlier()


class JobRepository:
    def __init__(self, session: Session) -> None:
        self._session = session

    # Jobs, as their team sees them.

    def add(self, job: Job) -> None:
        self._session.add(job)
        self._session.flush()

    def find(self, team_id: str, job_id: str, purpose: JobPurpose = JobPurpose.TRAINING) -> Job | None:
        return self._session.scalar(_FIND, {"job_id": job_id, "team_id": team_id, "purpose": purpose})

    def find_of_any_team(self, job_id: str) -> Job | None:
        """The training that made a model; models are shared between teams, jobs are not."""
        with across_teams(self._session):
            return self._session.scalar(select(Job).where(Job.id == job_id, Job.purpose == JobPurpose.TRAINING))

    def find_spec(self, job_id: str) -> Json | None:
        """The settings of the run of any team's job."""
        with across_teams(self._session):
            return self._session.scalar(select(Job.spec).where(Job.id == job_id))

    def lock(self, team_id: str, job_id: str, purpose: JobPurpose = JobPurpose.TRAINING) -> Job | None:
        """The job, until the end of the transaction nobody else's to change."""
        return self._session.scalar(
            select(Job)
            .where(Job.id == job_id, Job.team_id == team_id, Job.purpose == purpose)
            .with_for_update()
            .execution_options(populate_existing=True)
        )

    def list(
        self,
        team_id: str,
        *,
        metadata: dict[str, str] | None = None,
        no_metadata: bool = False,
        model_id: str | None = None,
        purpose: JobPurpose = JobPurpose.TRAINING,
        after: str | None,
        limit: int,
    ) -> Page[Job]:
        """Newest first. `metadata` are pairs a job must have; `no_metadata` asks for jobs without any.

        `model_id` is the model they continue from, or score.
        """
        where: list[ColumnElement[bool]] = []
        if model_id is not None:
            where.append(Job.parent_model_id == model_id)
        if metadata:
            where.append(Job.user_metadata.contains(metadata))
        if no_metadata:
            where.append(Job.user_metadata.is_(None))
        return fetch_page(
            self._session,
            Job,
            order_by=[Job.created_at, Job.id],
            identity=Job.id,
            scope=[Job.team_id == team_id, Job.purpose == purpose],
            where=where,
            after=after,
            limit=limit,
        )

    def earlier_jobs(self, base_id: str) -> tuple[EarlierJob, ...]:
        """The last trainings on this base, of any team, that succeeded at their first attempt."""
        with across_teams(self._session):
            rows = self._session.execute(_EARLIER, {"base_id": base_id}).all()
        return tuple(
            EarlierJob(
                file_bytes=size,
                row_share=train_rows / examples if examples else 0.0,
                epoch_tokens=tokens,
                trained_tokens=trained or 0,
                gpu_seconds=seconds,
                device_kind=kind or "unknown",
            )
            for size, examples, train_rows, tokens, trained, seconds, kind in rows
        )

    # Leases. Every worker's write begins with `lock_held`; the row stays locked until it is committed.

    def lock_held(self, job_id: str, fence: int) -> Job | None:
        """The job, locked, if its lease is still the one with this fence; None if not."""
        return self._session.scalar(
            select(Job)
            .where(Job.id == job_id, Job.fence == fence, Job.owner.is_not(None))
            .with_for_update()
            .execution_options(populate_existing=True)
        )

    def extend_lease(self, job_id: str, fence: int, seconds: float) -> None:
        """Let the lease run for at least so long from now; never shortens it."""
        until = func.greatest(Job.lease_until, func.clock_timestamp() + timedelta(seconds=seconds))
        self._session.execute(
            update(Job)
            .where(Job.id == job_id, Job.fence == fence, Job.owner.is_not(None))
            .values(lease_until=until)
            .execution_options(synchronize_session=False)
        )

    def lock_expired(self, limit: int) -> Sequence[Job]:
        """Jobs whose lease ran out, locked; those that somebody is writing to are left for the next time."""
        return self._session.scalars(
            select(Job)
            .where(Job.owner.is_not(None), Job.lease_until < func.clock_timestamp())
            .order_by(Job.lease_until)
            .limit(limit)
            .with_for_update(skip_locked=True)
            .execution_options(populate_existing=True)
        ).all()

    def lock_waiting_or_running(self, team_id: str) -> Sequence[Job]:
        """A team's jobs that have a GPU or wait for one, locked; those that somebody writes to are left out."""
        return self._session.scalars(
            select(Job)
            .where(Job.team_id == team_id, Job.status.in_(("queued", "running")))
            .order_by(Job.id)
            .with_for_update(skip_locked=True)
            .execution_options(populate_existing=True)
        ).all()

    def lock_of_worker(self, worker_id: str, *, but_not: str) -> Sequence[Job]:
        """Jobs leased to this worker under another owner name than `but_not`, locked."""
        return self._session.scalars(
            select(Job)
            .where(Job.owner.startswith(f"{worker_id}/", autoescape=True), Job.owner != but_not)
            .with_for_update()
            .execution_options(populate_existing=True)
        ).all()

    def shared_owners(self, owners: Iterable[str | None]) -> frozenset[str | None]:
        """Of these holders, those that hold more than one job."""
        query = (
            select(Job.owner)
            .where(Job.owner.in_({owner for owner in owners if owner is not None}))
            .group_by(Job.owner)
            .having(func.count() > 1)
        )
        return frozenset(self._session.scalars(query))

    def now(self) -> Function[datetime]:
        """The database's clock, for columns that are set to it."""
        return func.clock_timestamp()

    def now_plus(self, seconds: float) -> ColumnElement[datetime]:
        return func.clock_timestamp() + timedelta(seconds=seconds)

    def flush(self) -> None:
        self._session.flush()

    # Events.

    def add_events(self, job_id: str, messages: Iterable[str], *, level: str, type_: str, data: Json | None) -> None:
        """At once, so that their sequence is the order in which they were said."""
        shared = {"job_id": job_id, "level": level, "type": type_, "data": data}
        rows = [{"id": new_id(Prefix.EVENT), "message": message, **shared} for message in messages]
        # In the order of the rows: https://docs.sqlalchemy.org/en/20/core/connections.html#controlling-result-order
        self._session.execute(insert(JobEvent).returning(JobEvent.sequence, sort_by_parameter_order=True), rows)

    def events(self, job_id: str, *, after: str | None, limit: int) -> Page[JobEvent]:
        return fetch_page(
            self._session,
            JobEvent,
            order_by=[JobEvent.sequence],
            identity=JobEvent.id,
            scope=[JobEvent.job_id == job_id],
            after=after,
            limit=limit,
        )

    def events_since(self, job_id: str, sequence: int, limit: int) -> Sequence[JobEvent]:
        """Oldest first. Writers lock the job's row first, so a later commit never has a smaller sequence."""
        return self._session.scalars(
            select(JobEvent)
            .where(JobEvent.job_id == job_id, JobEvent.sequence > sequence)
            .order_by(JobEvent.sequence)
            .limit(limit)
        ).all()

    # Metrics.

    def upsert_metric(self, job_id: str, step: int, figures: dict[str, Any]) -> bool:
        """Store a step's figures over older ones; True if the step is new."""
        statement = insert(JobMetric).values(job_id=job_id, step=step, figures=figures)
        statement = statement.on_conflict_do_update(
            index_elements=["job_id", "step"],
            set_={
                "figures": JobMetric.figures.op("||")(statement.excluded.figures),
                "recorded_at": func.clock_timestamp(),
            },
        )
        # xmax is 0 for a row just inserted.
        return bool(self._session.scalar(statement.returning(literal_column("(job_metrics.xmax = 0)"))))

    def metrics(self, job_id: str, *, after_step: int = 0, limit: int | None = None) -> Sequence[JobMetric]:
        """By ascending step."""
        statement = (
            select(JobMetric).where(JobMetric.job_id == job_id, JobMetric.step > after_step).order_by(JobMetric.step)
        )
        return self._session.scalars(statement if limit is None else statement.limit(limit)).all()

    # Checkpoints.

    def add_checkpoint(self, checkpoint: CheckpointRow) -> None:
        self._session.add(checkpoint)
        self._session.flush()

    def find_checkpoint(self, job_id: str, step: int) -> CheckpointRow | None:
        return self._session.scalar(
            select(CheckpointRow).where(CheckpointRow.job_id == job_id, CheckpointRow.step == step)
        )

    def checkpoints(self, job_id: str, *, after: str | None, limit: int) -> Page[CheckpointRow]:
        return fetch_page(
            self._session,
            CheckpointRow,
            order_by=[CheckpointRow.step],
            identity=CheckpointRow.id,
            scope=[CheckpointRow.job_id == job_id],
            after=after,
            limit=limit,
        )
