"""Whose rows a transaction may touch: the second wall between teams, held by Postgres itself (decision 0010).

Every transaction of the API runs as the database role `tunesmith_api` in the scope of one team; row-level security
shows it that team's rows only, and none before the key has told which team it is. Workers run as `tunesmith_worker`,
which sees all teams. All is set with `SET LOCAL`: a connection keeps nothing for its next user, behind PgBouncer too.

What crosses teams by its nature says so: `with across_teams(session):`, and a reviewer finds all of it by that name.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import dict_row
from sqlalchemy import Connection, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, SessionTransaction

API_ROLE = "tunesmith_api"
WORKER_ROLE = "tunesmith_worker"
_KEY, _ASKED, _FOUND = "scope", "asked_key", "found_key"
# Both begin a transaction, and each transaction begins so; in the driver's own words, which see `_begin`.
_ENTER = "SELECT set_config('role', %(role)s, true), set_config('tunesmith.team_id', %(team_id)s, true)"
# With the question that the first statement of a request asks: role and team in the same round trip.
_ENTER_BY = (
    "SELECT set_config('role', {role}, true), set_config('tunesmith.team_id', coalesce(found.team_id, ''), true), "
    "found.* FROM (SELECT 1) AS one LEFT JOIN LATERAL tunesmith_find_caller({sha256}) AS found ON true"
)
_ENTER_BY_KEY = _ENTER_BY.format(role="%(role)s", sha256="%(sha256)s")
ENTER_BY_KEY_NUMBERED = _ENTER_BY.format(role="$1", sha256="$2").encode()
"""For `app.db.pipeline`: the role, and the hash of a key."""
# A function of the database that sees over the wall, for this one question: whose is the key with this hash?
_FIND_KEY = text("SELECT * FROM tunesmith_find_caller(:sha256)")
_SET_TEAM = text("SELECT set_config('tunesmith.team_id', :team_id, true)")
_SET_ROLE = text("SELECT set_config('role', :role, true)")


@dataclass(frozen=True)
class Scope:
    """The database role of a transaction (None: the one that logged in), and the team it acts for ('': none yet)."""

    role: str | None
    team_id: str = ""


OWNER = Scope(None)
"""Who migrates: the command line beside the database, and tests."""
API = Scope(API_ROLE)
WORKER = Scope(WORKER_ROLE)


def team_scope(team_id: str) -> Scope:
    """Of a transaction of the API that is opened for a team whose key was checked before."""
    return Scope(API_ROLE, team_id)


class ScopedSession(Session):
    """A session each of whose transactions begins in its scope."""


@event.listens_for(ScopedSession, "after_begin")
def _enter(session: Session, _: SessionTransaction, connection: Connection) -> None:
    scope = scope_of(session)
    # Savepoints inherit it.
    if scope.role is None or session.in_nested_transaction():
        return
    sha256 = session.info.pop(_ASKED, None)
    if sha256 is None:
        _begin(connection, _ENTER, {"role": scope.role, "team_id": scope.team_id})
    else:
        session.info[_FOUND] = _begin(connection, _ENTER_BY_KEY, {"role": scope.role, "sha256": sha256})


def _begin(connection: Connection, statement: str, values: dict[str, Any]) -> dict[str, Any]:
    """Run the first statement of a transaction and give its one row.

    By the driver itself: this is part of every request, and SQLAlchemy would take longer for it than Postgres.
    """
    driver: psycopg.Connection[Any] | None = connection.connection.driver_connection
    if driver is None:
        raise RuntimeError("a connection without its driver's cannot begin a transaction")
    try:
        row = driver.cursor(row_factory=dict_row).execute(statement, values).fetchone()
    except psycopg.Error:
        # It cannot succeed in this transaction, and says why as every other statement would: as SQLAlchemy's error,
        # after a look whether the whole pool is lost.
        connection.exec_driver_sql(statement, values)
        raise
    return row or {}


def open_session(session: ScopedSession, scope: Scope) -> ScopedSession:
    """Give a new session its scope."""
    session.info[_KEY] = scope
    return session


def scope_of(session: Session) -> Scope:
    """In which this session's next transaction begins."""
    scope: Scope = session.info.get(_KEY, OWNER)
    return scope


def enter_team(session: Session, team_id: str) -> None:
    """From here on this session, in its later transactions too, acts for this team; only the API has such a scope."""
    scope = scope_of(session)
    if scope.role != API_ROLE or scope.team_id == team_id:
        return
    session.info[_KEY] = Scope(scope.role, team_id)
    if session.in_transaction():
        session.execute(_SET_TEAM, {"team_id": team_id})


def find_key(session: Session, sha256: bytes) -> Mapping[str, Any] | None:
    """The key with this hash, of whichever team, as the columns of `tunesmith_find_caller`.

    Where the API's session has not begun yet, its transaction begins within the key's team, at no further round trip.
    """
    scope = scope_of(session)
    if scope.role != API_ROLE or session.in_transaction():
        row = session.execute(_FIND_KEY, {"sha256": sha256}).mappings().one_or_none()
        return None if row is None else dict(row)
    session.info[_ASKED] = sha256
    session.connection()
    found: dict[str, Any] = session.info.pop(_FOUND)
    if found["team_id"] is None:
        return None
    session.info[_KEY] = Scope(scope.role, found["team_id"])
    return found


def is_within(session: Session, team_id: str) -> bool:
    """Whether rows of this team can be reached without `across_teams`."""
    scope = scope_of(session)
    return scope.role != API_ROLE or scope.team_id == team_id


@contextmanager
def across_teams(session: Session) -> Iterator[None]:
    """Inside, rows of all teams are seen and can be changed: the caller has shown a right to them.

    May be nested. What the block adds to the session is flushed before it ends.
    """
    scope = scope_of(session)
    if scope.role != API_ROLE:
        yield
        return
    session.flush()
    session.info[_KEY] = Scope(WORKER_ROLE, scope.team_id)
    if session.in_transaction():
        session.execute(_SET_ROLE, {"role": WORKER_ROLE})
    try:
        yield
        session.flush()
    except DBAPIError:
        # The transaction is broken, and its end takes the role back.
        session.info[_KEY] = scope
        raise
    except BaseException:
        _leave(session, scope)
        raise
    _leave(session, scope)


def _leave(session: Session, scope: Scope) -> None:
    session.info[_KEY] = scope
    if session.in_transaction():
        session.execute(_SET_ROLE, {"role": scope.role})
