"""What a team may have of the pool: its weight and its quotas, set by the operator."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from app.audit.service import AuditService
from app.db.engine import UnitOfWork
from app.db.scope import across_teams
from app.errors import NotFound, QuotaExceeded
from app.identity.caller import Caller
from app.identity.policy import Permission, is_allowed
from app.pool.repository import PoolRepository


@dataclass(frozen=True)
class Limits:
    """Of one team; these are the defaults of a team for which nothing was set."""

    weight: float = 1.0
    max_gpus: int | None = None
    max_queued_jobs: int | None = None
    may_share: bool = True


class LimitsService:
    def __init__(self, work: UnitOfWork, audit: AuditService) -> None:
        self._audit = audit
        self._session = work.session
        self._repository = PoolRepository(work.session)

    def get(self, caller: Caller, team_id: str) -> Limits:
        """`NotFound` for a team that is absent, or not the caller's unless the caller runs the pool."""
        with self._reach(caller, team_id):
            return self._find(caller, team_id)

    def change(self, caller: Caller, team_id: str, changes: Mapping[str, Any]) -> Limits:
        """Set what is named and leave the rest; from now on, also for what waits already."""
        with self._reach(caller, team_id):
            return self._change(caller, team_id, changes)

    def _change(self, caller: Caller, team_id: str, changes: Mapping[str, Any]) -> Limits:
        before = self._find(caller, team_id)
        if changes:
            self._repository.save_limits(team_id, changes)
            self._audit.record(
                team_id,
                caller.actor,
                "pool.limits",
                team_id,
                before={name: getattr(before, name) for name in changes},
                after=dict(changes),
            )
        return self._read(team_id)

    def reserve_place(self, team_id: str) -> None:
        """Before a job is added, in its transaction: `QuotaExceeded` if the team has as many as it may.

        Submissions of a team that has a limit wait here for each other, so that none can pass it together.
        """
        limits = self._repository.lock_limits(team_id)
        if limits is None or limits.max_queued_jobs is None:
            return
        number = self._repository.count_not_running(team_id)
        if number >= limits.max_queued_jobs:
            raise QuotaExceeded(
                f"Your team has {number} jobs that are not running yet, and may have {limits.max_queued_jobs} at once "
                "(max_queued_jobs). Wait until one starts, cancel one, or ask the operator for more.",
                code="quota_exceeded",
            )

    def _reach(self, caller: Caller, team_id: str) -> AbstractContextManager[None]:
        """Who runs the pool reaches every team's limits."""
        if team_id != caller.team_id and is_allowed(caller.role, Permission.POOL_WRITE):
            return across_teams(self._session)
        return nullcontext()

    def _find(self, caller: Caller, team_id: str) -> Limits:
        is_theirs = team_id == caller.team_id or is_allowed(caller.role, Permission.POOL_WRITE)
        if not is_theirs or not self._repository.team_exists(team_id):
            raise NotFound(f"There is no project '{team_id}' here, or it is not yours.", param="project_id")
        return self._read(team_id)

    def _read(self, team_id: str) -> Limits:
        row = self._repository.limits(team_id)
        return Limits() if row is None else Limits(row.weight, row.max_gpus, row.max_queued_jobs, row.may_share)
