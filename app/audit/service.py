"""Who did what to which object, when; written in the transaction it describes, chained by hashes."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from app.audit.chain import INSTALLATION, Entry, Head, Verdict, entry_sha256, verify
from app.audit.repository import AuditFilter, AuditRepository
from app.db.engine import UnitOfWork
from app.db.keyset import Page
from app.db.tables import AuditEvent
from app.errors import InvalidInput


@dataclass(frozen=True)
class _Event:
    team: str
    actor: str
    action: str
    object_id: str
    data: dict[str, Any]


class AuditService:
    def __init__(self, work: UnitOfWork) -> None:
        self._work = work
        self._repository = AuditRepository(work.session)
        self._waiting: list[_Event] = []

    def record(self, team_id: str | None, actor: str, action: str, object_id: str, **data: Any) -> None:
        """Append one event. `actor` is `key:…`, `worker:…` or `system`; `action` is `noun.verb`; `data` is JSON.

        The event is written at the end of the transaction: from then until the commit, others who write to the same
        team's chain wait.
        """
        if not self._waiting:
            self._work.before_commit(self._append)
            self._work.on_rollback(self._waiting.clear)
        self._waiting.append(_Event(team_id or INSTALLATION, actor, action, object_id, data))

    def page(
        self, team_id: str, *, object_id: str | None = None, after: int | None = None, limit: int = 20
    ) -> Page[AuditEvent]:
        """A team's events, newest first."""
        return self._repository.page_of_team(team_id, object_id=object_id, after=after, limit=limit)

    def search(self, wanted: AuditFilter, *, after: int | None, limit: int) -> Page[AuditEvent]:
        """Events of the teams that `wanted` names, newest first."""
        return self._repository.page(wanted, after=after, limit=limit)

    def head(self, team: str) -> Head:
        """The end of a team's chain; keep it elsewhere, and later it proves that nothing before it was changed."""
        return self._repository.head(team)

    def entries(self, team: str, *, after: int = 0, limit: int) -> Iterator[Entry]:
        """Rows of a chain after the row `after`, in its order."""
        return self._repository.entries(team, after=after, limit=limit)

    def verify(self, team: str, *, after: int = 0, limit: int, exported: Head | None = None) -> tuple[Verdict, bool]:
        """Check at most `limit` rows after the row `after`; the verdict, and whether there are more rows.

        `exported` is a head that was kept elsewhere. `InvalidInput` if `after` is no row of the chain.
        """
        # The head first: rows that come meanwhile lie beyond it.
        head = self._repository.head(team)
        start = Head(team)
        if after:
            row = self._repository.entry_at(team, after)
            if row is None:
                raise InvalidInput(f"The chain has no row {after}. Begin at 0.", param="after")
            start = Head(team, row.sequence, row.sha256)
        rows = list(self._repository.entries(team, after=after, limit=limit + 1))
        has_more = len(rows) > limit
        heads = [head] if exported is None else [exported, head]
        # Rows beyond the head were committed after it was read; a forged one is found by the next check.
        return verify(rows[:limit], start=start, heads=heads, is_whole=not has_more), has_more

    def _append(self) -> None:
        """One chain after the other, always in the same order: two transactions cannot wait for each other."""
        waiting, self._waiting = self._waiting, []
        for team in sorted({event.team for event in waiting}):
            head, now = self._repository.lock_head(team)
            entries = []
            for event in waiting:
                if event.team != team:
                    continue
                entry = Entry(
                    team=team,
                    sequence=head.sequence + 1,
                    at=now,
                    actor=event.actor,
                    action=event.action,
                    object_id=event.object_id,
                    data=event.data,
                    previous_sha256=head.sha256,
                )
                entry = replace(entry, sha256=entry_sha256(entry))
                entries.append(entry)
                head = Head(team, entry.sequence, entry.sha256)
            self._repository.append(entries)
