"""Conditions on rows, each beside the pure rule it says in SQL, and rows as the pure rules take them."""

from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, func, literal, literal_column, or_

from app.db.tables import Job, Worker
from app.pool.preemption import RunningJob
from app.pool.snapshot import Card, Needs

VALIDATING, QUEUED = "validating_files", "queued"


def claimable(now: datetime | None = None) -> ColumnElement[bool]:
    """Nobody holds the lease, and any back-off is over; by the database's clock."""
    moment = func.clock_timestamp() if now is None else literal(now)
    return and_(
        or_(Job.owner.is_(None), Job.lease_until < moment),
        or_(Job.not_before.is_(None), Job.not_before <= moment),
    )


def held_back(now: datetime) -> ColumnElement[bool]:
    """The opposite, of a job that waits; written so that it finds the index of such jobs."""
    moment = literal(now)
    return and_(
        or_(Job.owner.is_not(None), Job.not_before.is_not(None)),
        or_(and_(Job.owner.is_not(None), Job.lease_until >= moment), Job.not_before > moment),
    )


def card_of(worker: Worker | Any, resident: frozenset[str]) -> Card:
    """What a worker's row says it offers."""
    return Card(
        memory_bytes=worker.memory_bytes,
        compute_capability=worker.compute_capability,
        bases=None if worker.bases is None else frozenset(worker.bases),
        resident=resident,
        gpus=worker.gpus,
    )


def has_status(status: str) -> ColumnElement[bool]:
    """A constant in the statement, not a parameter: only so can a plan use the index of waiting jobs."""
    if status not in {VALIDATING, QUEUED}:
        raise ValueError(f"no job waits in the status {status}")
    return Job.status == literal_column(f"'{status}'")


def running_job(job: Job, worker: Worker, now: datetime) -> RunningJob:
    def since(moment: datetime | None) -> float:
        return float("inf") if moment is None else (now - moment).total_seconds()

    return RunningJob(
        job_id=job.id,
        team_id=job.team_id,
        priority=job.priority,
        base_id=job.base_id,
        needs=Needs(job.memory_bytes, job.compute_capability),
        card=card_of(worker, frozenset({job.base_id})),
        ran_seconds=since(job.claimed_at),
        made_way_seconds_ago=since(job.preempted_at),
        is_asked=job.preempt_reason is not None,
        worker_id=worker.id,
    )
