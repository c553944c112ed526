"""A read in one round trip: whose the key is, and the one row that the request asks for.

What a client asks most often is how one thing stands. As a transaction of its own that took four trips to the database
(begin, key, row, commit), and in Python each costs more than Postgres needs for the row. Here the key's statement and
the row's go out together: what the first sets, the role and the team, holds for the second and ends with it. So the
second wall stands here too (decision 0010).
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from queue import Empty, LifoQueue
from typing import Any, Generic, TypeVar, cast

import psycopg
from sqlalchemy import ColumnElement, Engine, inspect, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app.db.base import Base
from app.db.pipeline import Pipeline
from app.db.scope import API_ROLE, ENTER_BY_KEY_NUMBERED, find_key, is_of_the_api

Row = TypeVar("Row", bound=Base)
_WAIT_SECONDS = 1.0


class Question(Generic[Row]):
    """Asks for one row of a table by texts that a request names; built once.

    `where` holds `bindparam`s of those names, and no team: of the key's own team are all rows that can be seen.
    """

    def __init__(self, table: type[Row], where: ColumnElement[bool]) -> None:
        self._new = inspect(table).class_manager.new_instance
        self._select = select(table).where(where)
        columns = [attribute.columns[0].label(attribute.key) for attribute in inspect(table).column_attrs]
        compiled = select(*columns).where(where).compile(dialect=postgresql.dialect(paramstyle="numeric_dollar"))  # type: ignore[no-untyped-call]
        self.statement = str(compiled).encode()
        self._positions = tuple(compiled.positiontup or ())
        self._constants = compiled.params

    def values(self, named: Mapping[str, Any]) -> list[str]:
        """In the order of the statement."""
        return [str(named.get(name, self._constants[name])) for name in self._positions]

    def row(self, values: Mapping[str, Any]) -> Row:
        """As the table's class, of no session: it is to be read, and cannot be changed."""
        found = cast("Row", self._new())
        found.__dict__.update(values)
        return found

    def ask(self, session: Session, named: Mapping[str, Any]) -> Row | None:
        """In the session's transaction."""
        return session.scalar(self._select, dict(named))


class LookConnections:
    """The connections of one process that are kept for looks, apart from the engine's pool."""

    def __init__(self, engine: Engine, count: int) -> None:
        self._engine = engine
        # The one used last first; None is one that is yet to be opened.
        self._free: LifoQueue[Pipeline | None] = LifoQueue()
        for _ in range(count):
            self._free.put(None)

    @contextmanager
    def one(self) -> Iterator[Pipeline]:
        """For one question; a connection is not used again after an error. `Empty` if all are taken for long."""
        held = self._free.get(timeout=_WAIT_SECONDS)
        kept = None
        try:
            if held is None:
                held = _open(self._engine)
            yield held
            kept = held
        finally:
            self._free.put(kept)
            if kept is None and held is not None:
                held.connection.close()

    def close(self) -> None:
        held = [self._free.get() for _ in range(self._free.qsize())]
        for one in held:
            if one is not None:
                one.connection.close()
            self._free.put(None)


def _open(engine: Engine) -> Pipeline:
    """Over a connection as the engine opens its own."""
    opened = engine.raw_connection()
    opened.detach()
    driver = cast("psycopg.Connection[Any]", opened.dbapi_connection)
    driver.autocommit = True
    return Pipeline(driver)


class Look(Generic[Row]):
    """A question of one request, to be asked beside the question whose the request's key is."""

    def __init__(self, question: Question[Row], named: Mapping[str, Any], connections: LookConnections) -> None:
        self.row: Row | None = None
        """The answer, once the key was looked up; None if there is no such row, or not in the key's team."""
        self._question = question
        self._named = named
        self._connections = connections

    def find_key(self, session: Session, sha256: bytes) -> Mapping[str, Any] | None:
        """As `app.db.scope.find_key`, and answers the question too; begins no transaction of the session."""
        if not is_of_the_api(session) or session.in_transaction():
            raise RuntimeError("a look begins a request of the API, before anything else was asked")
        question = self._question
        try:
            with self._connections.one() as pipeline:
                key, row = pipeline.ask(
                    (ENTER_BY_KEY_NUMBERED, (API_ROLE, sha256)), (question.statement, question.values(self._named))
                )
        except (psycopg.Error, SQLAlchemyError, Empty):
            # The connection may have been dead for long. The ordinary way finds a live one, or says why there is none.
            found = find_key(session, sha256)
            self.row = None if found is None else question.ask(session, self._named)
            return found
        if key is None or key["team_id"] is None:
            return None
        self.row = None if row is None else question.row(row)
        return key
