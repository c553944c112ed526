"""A read in one round trip: whose the key is, and the one row that the request asks for.

What a client asks most often is how one thing stands. As a transaction of its own that took four trips to the database
(begin, key, row, commit), and in Python each costs more than Postgres needs for the row. Here the key's statement and
the row's go out together, and the answer is waited for in the event loop. What the first sets, the role and the team,
holds for the second and ends with it: so the second wall stands here too (decision 0010).
"""

import asyncio
from collections.abc import Mapping
from typing import Any, Generic, TypeVar, cast

import psycopg
from anyio import to_thread
from sqlalchemy import ColumnElement, Engine, inspect, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app.db.base import Base
from app.db.pipeline import Pipeline
from app.db.scope import API_ROLE, ENTER_BY_KEY_NUMBERED

Row = TypeVar("Row", bound=Base)


class Question(Generic[Row]):
    """Asks for one row of a table by texts that a request names; built once.

    `where` holds `bindparam`s of those names, and no team: of the key's own team are all rows that can be seen.
    """

    def __init__(self, table: type[Row], where: ColumnElement[bool]) -> None:
        self._new = inspect(table).class_manager.new_instance
        self._select = select(table).where(where)
        columns = [attribute.columns[0].label(attribute.key) for attribute in inspect(table).column_attrs]
        # SQLAlchemy gives its dialects no types; this one writes `$1` as libpq wants it.
        dialect = postgresql.dialect(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]
        compiled = select(*columns).where(where).compile(dialect=dialect)
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


class LookConnection:
    """The one connection of a process on which all its looks are asked, apart from the engine's pool.

    One for each event loop, to be exact: a service has one.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._pipelines: dict[asyncio.AbstractEventLoop, asyncio.Future[Pipeline]] = {}

    async def pipeline(self) -> Pipeline:
        """A connection that was alive when it was last used."""
        loop = asyncio.get_running_loop()
        opened = self._pipelines.get(loop)
        if opened is None or (opened.done() and not _is_alive(opened)):
            self._close_those_of_ended_loops()
            opened = self._pipelines[loop] = asyncio.ensure_future(self._open(loop))
        # Shielded: others wait for it too.
        return await asyncio.shield(opened)

    def close(self) -> None:
        for opened in self._pipelines.values():
            if opened.done() and _is_alive(opened):
                opened.result().close()
        self._pipelines.clear()

    async def _open(self, loop: asyncio.AbstractEventLoop) -> Pipeline:
        return Pipeline(await to_thread.run_sync(self._connect), loop)

    def _connect(self) -> "psycopg.Connection[Any]":
        """As the engine opens its own."""
        opened = self._engine.raw_connection()
        opened.detach()
        driver = cast("psycopg.Connection[Any]", opened.dbapi_connection)
        driver.autocommit = True
        return driver

    def _close_those_of_ended_loops(self) -> None:
        for loop in [loop for loop in self._pipelines if loop.is_closed()]:
            opened = self._pipelines.pop(loop)
            if opened.done() and _is_alive(opened):
                opened.result().close()


def _is_alive(opened: "asyncio.Future[Pipeline]") -> bool:
    return not opened.cancelled() and opened.exception() is None and not opened.result().connection.closed


class MissedError(Exception):
    """A look could not be taken. The ordinary way finds a connection that lives, or says why there is none."""


class Look(Generic[Row]):
    """A question of one request, to be asked beside the question whose the request's key is."""

    def __init__(self, question: Question[Row], named: Mapping[str, Any], connection: LookConnection) -> None:
        self.row: Row | None = None
        """The answer, once the key was looked up; None if there is no such row, or not in the key's team."""
        self._question = question
        self._named = named
        self._connection = connection

    async def find_key(self, sha256: bytes) -> Mapping[str, Any] | None:
        """As `app.db.scope.find_key`, and answers the question too; begins no transaction. `MissedError`."""
        question = self._question
        try:
            pipeline = await self._connection.pipeline()
            key, row = await pipeline.ask(
                (ENTER_BY_KEY_NUMBERED, (API_ROLE, sha256)), (question.statement, question.values(self._named))
            )
        except (psycopg.Error, SQLAlchemyError) as error:
            raise MissedError from error
        if key is None or key["team_id"] is None:
            return None
        self.row = None if row is None else question.row(row)
        return key

    def ask(self, session: Session) -> None:
        """The ordinary way, in the session's transaction, which is within the key's team."""
        self.row = self._question.ask(session, self._named)
