"""What teams have of the pool and may have, in one written-out statement: it is part of each claim.

When a team was last served is one index probe a team, never a walk over its old jobs.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import TextClause, text
from sqlalchemy.orm import Session

from app.pool.conditions import VALIDATING
from app.pool.snapshot import TeamUse

_USES = """
SELECT teams.id, team_limits.weight, team_limits.max_gpus, held.gpus, held.memory_bytes, last.claimed_at
FROM teams
LEFT JOIN team_limits ON team_limits.team_id = teams.id
LEFT JOIN (
    SELECT seated.team_id, count(*) AS gpus, sum(workers.memory_bytes) AS memory_bytes
    FROM (
        SELECT DISTINCT team_id, owner FROM jobs WHERE owner IS NOT NULL AND status {compared} '{validating}'
    ) AS seated LEFT JOIN workers ON seated.owner = workers.id || '/' || workers.incarnation
    GROUP BY seated.team_id
) AS held ON held.team_id = teams.id
LEFT JOIN LATERAL (
    SELECT claimed_at FROM jobs
    WHERE jobs.team_id = teams.id AND claimed_at IS NOT NULL
    ORDER BY claimed_at DESC
    LIMIT 1
) AS last ON true
WHERE teams.id = ANY (CAST(:team_ids AS varchar[])) {or_holds}
"""


def _statement(compared: str, or_holds: str) -> TextClause:
    return text(_USES.format(compared=compared, validating=VALIDATING, or_holds=or_holds))


# A text for each case, not one with a parameter for it: so Postgres can keep its plan and need not make one each time.
_STATEMENTS = {
    (trains, with_holders): _statement("<>" if trains else "=", "OR held.gpus IS NOT NULL" if with_holders else "")
    for trains in (True, False)
    for with_holders in (True, False)
}


def team_uses(
    session: Session,
    status: str,
    team_ids: Iterable[str],
    now: datetime,
    *,
    counts: Mapping[str, int] | None = None,
    with_holders: bool = False,
) -> dict[str, TeamUse]:
    """Of these teams (and of all that hold something), of the kind of worker that takes jobs of this status.

    `counts`: how many jobs of a team wait. Quotas are of GPUs, so inspection has none.
    """
    trains = status != VALIDATING
    rows: Any = session.execute(_STATEMENTS[trains, with_holders], {"team_ids": sorted(team_ids)})
    return {
        team_id: TeamUse(
            gpus=gpus or 0,
            memory_bytes=int(memory_bytes or 0) if trains else 0,
            weight=1.0 if weight is None else weight,
            max_gpus=max_gpus if trains else None,
            served_seconds_ago=float("inf") if served_at is None else (now - served_at).total_seconds(),
            waiting=0 if counts is None else counts.get(team_id, 0),
        )
        for team_id, weight, max_gpus, gpus, memory_bytes, served_at in rows
    }
