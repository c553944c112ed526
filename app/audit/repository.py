"""All SQL of the audit log: append and read, nothing else."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, bindparam, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as insert_or_keep
from sqlalchemy.orm import Session

from app.audit.chain import INSTALLATION, Entry, Head
from app.db.keyset import Page, fetch_page
from app.db.tables import AuditEvent, AuditHead


@dataclass(frozen=True)
class AuditFilter:
    """Which events; an empty field keeps all. Moments are inclusive where they say `or`."""

    teams: Sequence[str] | None
    """None: all chains, the installation's too."""
    object_ids: Sequence[str] = ()
    actors: Sequence[str] = ()
    actions: Sequence[str] = ()
    after: datetime | None = None
    at_or_after: datetime | None = None
    before: datetime | None = None
    at_or_before: datetime | None = None


# Built once: nearly every change of anything ends with it. A column's own name is reserved for SQLAlchemy.
_COLUMNS = [column.name for column in AuditEvent.__table__.columns if column.name != "id"]
_NEW: dict[str, Any] = {name: bindparam(f"new_{name}") for name in _COLUMNS}
_MOVE_HEAD = (
    update(AuditHead)
    .where(AuditHead.team_id == bindparam("chain"))
    .values(sequence=_NEW["sequence"], sha256=_NEW["sha256"])
)
_APPEND_LAST = insert(AuditEvent).values(_NEW).add_cte(_MOVE_HEAD.cte("moved"))


class AuditRepository:
    def __init__(self, session: Session) -> None:
        self._session = session

    def lock_head(self, team: str) -> tuple[Head, datetime]:
        """The end of a chain, which nobody else can move until this transaction ends, and the database's time."""
        statement = (
            select(AuditHead.sequence, AuditHead.sha256, func.clock_timestamp())
            .where(AuditHead.team_id == team)
            .with_for_update()
        )
        row = self._session.execute(statement).one_or_none()
        if row is None:
            first = Head(team)
            values = {"team_id": team, "sequence": first.sequence, "sha256": first.sha256}
            # Of two first writers one waits here for the other.
            self._session.execute(insert_or_keep(AuditHead).values(**values).on_conflict_do_nothing())
            row = self._session.execute(statement).one()
        return Head(team, row[0], row[1]), row[2]

    def append(self, entries: Sequence[Entry]) -> None:
        """Rows of one chain whose head is locked; the last one becomes its head."""
        *earlier, last = entries
        if earlier:
            self._session.execute(insert(AuditEvent), [_values(entry) for entry in earlier])
        values = {f"new_{name}": value for name, value in _values(last).items()}
        self._session.execute(_APPEND_LAST, {**values, "chain": last.team})

    def head(self, team: str) -> Head:
        row = self._session.execute(
            select(AuditHead.sequence, AuditHead.sha256).where(AuditHead.team_id == team)
        ).one_or_none()
        return Head(team) if row is None else Head(team, row[0], row[1])

    def entries(self, team: str, *, after: int, limit: int) -> Iterator[Entry]:
        """Rows of a chain in its order."""
        statement = (
            select(AuditEvent)
            .where(_of_chain(team), AuditEvent.sequence > after)
            .order_by(AuditEvent.sequence, AuditEvent.id)
            .limit(limit)
            .execution_options(yield_per=1000)
        )
        for row in self._session.scalars(statement):
            self._session.expunge(row)
            yield _entry(row)

    def entry_at(self, team: str, sequence: int) -> Entry | None:
        statement = select(AuditEvent).where(_of_chain(team), AuditEvent.sequence == sequence).limit(1)
        row = self._session.scalars(statement).one_or_none()
        return None if row is None else _entry(row)

    def page(self, wanted: AuditFilter, *, after: int | None, limit: int, ascending: bool = False) -> Page[AuditEvent]:
        return fetch_page(
            self._session,
            AuditEvent,
            order_by=[AuditEvent.id],
            identity=AuditEvent.id,
            scope=[] if wanted.teams is None else [AuditEvent.team_id.in_(wanted.teams)],
            where=list(_narrowed(wanted)),
            after=after,
            limit=limit,
            ascending=ascending,
        )

    def page_of_team(self, team_id: str, *, object_id: str | None, after: int | None, limit: int) -> Page[AuditEvent]:
        return fetch_page(
            self._session,
            AuditEvent,
            order_by=[AuditEvent.sequence],
            identity=AuditEvent.id,
            scope=[AuditEvent.team_id == team_id],
            where=[] if object_id is None else [AuditEvent.object_id == object_id],
            after=after,
            limit=limit,
        )


def _narrowed(wanted: AuditFilter) -> Iterator[ColumnElement[bool]]:
    for column, values in (
        (AuditEvent.object_id, wanted.object_ids),
        (AuditEvent.actor, wanted.actors),
        (AuditEvent.action, wanted.actions),
    ):
        if values:
            yield column.in_(values)
    if wanted.after is not None:
        yield AuditEvent.at > wanted.after
    if wanted.at_or_after is not None:
        yield AuditEvent.at >= wanted.at_or_after
    if wanted.before is not None:
        yield AuditEvent.at < wanted.before
    if wanted.at_or_before is not None:
        yield AuditEvent.at <= wanted.at_or_before


def _of_chain(team: str) -> ColumnElement[bool]:
    return AuditEvent.team_id.is_(None) if team == INSTALLATION else AuditEvent.team_id == team


def _values(entry: Entry) -> dict[str, object]:
    values = dict(entry.__dict__)
    team = values.pop("team")
    return {**values, "team_id": None if team == INSTALLATION else team}


def _entry(row: AuditEvent) -> Entry:
    return Entry(
        team=row.team_id or INSTALLATION,
        sequence=row.sequence,
        at=row.at,
        actor=row.actor,
        action=row.action,
        object_id=row.object_id,
        data=row.data,
        previous_sha256=row.previous_sha256,
        sha256=row.sha256,
    )
