"""Whose rows a transaction may touch: the second wall between teams, held by Postgres itself (decision 0010).

Every transaction of the API runs as the database role `tunesmith_api` in the scope of one team; row-level security
shows it that team's rows only, and none before the key has told which team it is. Workers run as `tunesmith_worker`, which
sees all teams. All is set with `SET LOCAL`: a connection keeps nothing for its next user, behind PgBouncer too.

What crosses teams by its nature says so: `with across_teams(session):`, and a reviewer finds all of it by that name.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import Connection, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, SessionTransaction

API_ROLE = "tunesmith_api"
WORKER_ROLE = "tunesmith_worker"
_KEY = "scope"
_ENTER = text("SELECT set_config('role', :role, true), set_config('tunesmith.team_id', :team_id, true)")
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


class ScopedSession(Session):
    """A session each of whose transactions begins in its scope."""


@event.listens_for(ScopedSession, "after_begin")
def _enter(session: Session, _: SessionTransaction, connection: Connection) -> None:
    scope: Scope = session.info.get(_KEY, OWNER)
    # Savepoints inherit it.
    if scope.role is not None and not session.in_nested_transaction():
        connection.execute(_ENTER, {"role": scope.role, "team_id": scope.team_id})


def open_session(session: ScopedSession, scope: Scope) -> ScopedSession:
    """Give a new session its scope."""
    session.info[_KEY] = scope
    return session


def enter_team(session: Session, team_id: str) -> None:
    """From here on this session, in its later transactions too, acts for this team; only the API has such a scope."""
    scope: Scope = session.info.get(_KEY, OWNER)
    if scope.role != API_ROLE or scope.team_id == team_id:
        return
    session.info[_KEY] = Scope(scope.role, team_id)
    if session.in_transaction():
        session.execute(_SET_TEAM, {"team_id": team_id})


def is_within(session: Session, team_id: str) -> bool:
    """Whether rows of this team can be reached without `across_teams`."""
    scope: Scope = session.info.get(_KEY, OWNER)
    return scope.role != API_ROLE or scope.team_id == team_id


@contextmanager
def across_teams(session: Session) -> Iterator[None]:
    """Inside, rows of all teams are seen and can be changed: the caller has shown a right to them.

    May be nested. What the block adds to the session is flushed before it ends.
    """
    scope: Scope = session.info.get(_KEY, OWNER)
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
