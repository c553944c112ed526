"""The one statement of a claim that must not grow with the queue: the first jobs of each team.

Written out, since building it anew takes the service longer than Postgres takes to answer it. It is some index probes
(`ix_jobs_waiting`, `ix_jobs_waiting_base`) for each pair of team and priority, of which the first by level and age (as
`WaitingJob.key`) is kept. The status stands in it as a constant: only so can a plan use the indexes, which hold waiting
jobs alone.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import TextClause, text
from sqlalchemy.orm import Session

from app.pool.conditions import QUEUED, VALIDATING
from app.pool.snapshot import AGING_SECONDS, Card

_HEADS = """
SELECT head.*
FROM teams CROSS JOIN LATERAL (
    SELECT oldest.*
    FROM (VALUES (-1), (0), (1)) AS levels (priority) {held} CROSS JOIN LATERAL (
        SELECT id, team_id, jobs.priority, queued_at, base_id, memory_bytes, compute_capability, overtaken
        FROM jobs
        WHERE status = '{status}' AND team_id = teams.id AND jobs.priority = levels.priority {of_base}
            AND (owner IS NULL OR lease_until < :now)
            AND (not_before IS NULL OR not_before <= :now)
            AND (CAST(:bases AS varchar[]) IS NULL OR base_id = ANY (CAST(:bases AS varchar[])))
            AND (memory_bytes IS NULL OR memory_bytes <= CAST(:memory_bytes AS bigint))
            AND (compute_capability IS NULL OR compute_capability <= CAST(:compute_capability AS integer))
        ORDER BY queued_at, id
        LIMIT :depth
    ) AS oldest
    ORDER BY
        oldest.priority
            + floor(extract(epoch FROM CAST(:now AS timestamptz) - oldest.queued_at) / {aging_seconds}) DESC,
        oldest.queued_at, oldest.id
    LIMIT :depth
) AS head
WHERE CAST(:team_ids AS varchar[]) IS NULL OR teams.id = ANY (CAST(:team_ids AS varchar[]))
"""
_ANY = {"bases": None, "memory_bytes": 2**63 - 1, "compute_capability": 2**31 - 1}


def _statement(status: str, *, of_held_base: bool) -> TextClause:
    held = "CROSS JOIN unnest(CAST(:held AS varchar[])) AS held (base_id)" if of_held_base else ""
    of_base = "AND jobs.base_id = held.base_id" if of_held_base else ""
    return text(_HEADS.format(status=status, held=held, of_base=of_base, aging_seconds=int(AGING_SECONDS)))


_STATEMENTS = {
    (status, of_held): _statement(status, of_held_base=of_held)
    for status in (VALIDATING, QUEUED)
    for of_held in (False, True)
}


def first_jobs(
    session: Session,
    status: str,
    now: datetime,
    worker: Card | None,
    *,
    base_ids: Iterable[str] | None = None,
    team_ids: Iterable[str] | None = None,
    depth: int = 1,
) -> Sequence[Any]:
    """Rows of the first `depth` claimable jobs of each team that fit the worker; of these bases and teams alone."""
    values = {"now": now, "depth": depth, **_ANY, **({} if worker is None else _limits(worker))}
    values["team_ids"] = None if team_ids is None else sorted(team_ids)
    if base_ids is not None:
        values["held"] = sorted(base_ids)
    return session.execute(_STATEMENTS[status, base_ids is not None], values).all()


def _limits(worker: Card) -> dict[str, Any]:
    """What fits it, as `snapshot.fits` says."""
    limits: dict[str, Any] = {}
    if worker.bases is not None:
        limits["bases"] = sorted(worker.bases)
    if worker.memory_bytes is not None:
        limits["memory_bytes"] = worker.memory_bytes
        limits["compute_capability"] = worker.compute_capability or 0
    elif worker.compute_capability is not None:
        limits["compute_capability"] = worker.compute_capability
    return limits
