"""SQL of a queue's forecast: what waiting and running jobs have to do, and how long earlier ones took."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Float, Integer, cast, func, literal_column, select
from sqlalchemy.orm import Session

from app.db.tables import Job
from app.jobs.speeds import MEASURED_JOBS, Measured, Work
from app.jobs.states import JobPurpose


class QueueRepository:
    def __init__(self, session: Session) -> None:
        self._session = session

    def works(self, job_ids: Iterable[str]) -> dict[str, Work]:
        """What each of these jobs has to do in all, and how much of it a checkpoint has saved."""
        done = cast(Job.resume_checkpoint["step"].astext, Float) / func.nullif(
            cast(Job.encoding["total_steps"].astext, Float), 0.0
        )
        rows: Sequence[Any] = self._session.execute(
            select(Job.id, Job.base_id, Job.purpose, _rows(), func.coalesce(done, 0.0)).where(
                Job.id.in_(sorted(set(job_ids)))
            )
        ).all()
        return {job_id: Work(base_id, purpose, number or 0, share) for job_id, base_id, purpose, number, share in rows}

    def remaining_seconds(self, job_ids: Iterable[str]) -> dict[str, tuple[float | None, float]]:
        """Of jobs that run: the engine's own estimate of what is left, if any, and the seconds since they began."""
        now = func.clock_timestamp()
        rows: Sequence[Any] = self._session.execute(
            select(
                Job.id,
                func.extract("epoch", Job.estimated_finish - now),
                func.extract("epoch", now - Job.claimed_at),
            ).where(Job.id.in_(sorted(set(job_ids))))
        ).all()
        return {
            job_id: (None if left is None else max(0.0, float(left)), float(ran or 0.0)) for job_id, left, ran in rows
        }

    def measured(self, base_ids: Iterable[str]) -> list[Measured]:
        """The newest jobs of each base that succeeded without a break."""
        found = []
        for base_id in sorted(set(base_ids)):
            rows: Sequence[Any] = self._session.execute(
                select(Job.purpose, _rows(), func.extract("epoch", Job.finished_at - Job.claimed_at))
                .where(
                    Job.base_id == base_id,
                    Job.status == literal_column("'succeeded'"),
                    Job.started_at == Job.claimed_at,
                )
                .order_by(Job.finished_at.desc())
                .limit(MEASURED_JOBS)
            ).all()
            found += [Measured(base_id, purpose, number or 0, float(seconds)) for purpose, number, seconds in rows]
        return found


def _rows() -> ColumnElement[int]:
    """Rows that a job reads."""
    split = Job.dataset_report["split"]
    trained = cast(split["train_rows"].astext, Integer) * cast(Job.spec["n_epochs"].astext, Integer)
    scored = cast(split["heldout_rows"].astext, Integer)
    return func.coalesce(func.nullif(cast(Job.purpose == JobPurpose.EVALUATION, Integer), 0) * scored, trained)
