"""A read in one round trip: whose the key is, and the one row that the request asks for.

What a client asks most often is how one thing stands. As a transaction of its own that took four trips to the database
(begin, key, row, commit), and in Python each costs more than Postgres needs for the row. Here the key's statement and
the row's go out together, and the answer is waited for in the event loop. What the first sets, the role and the team,
holds for the second and ends with it: so the second wall stands here too (decision 0010).
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
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
        # The one used last comes first; None is one that is yet to be opened.
        self._free: list[Pipeline | None] = [None] * count
        self._waiting: deque[asyncio.Future[Pipeline | None]] = deque()

    @asynccontextmanager
    async def one(self) -> AsyncIterator[Pipeline]:
        """For one question; a connection is not used again after an error. `AllTakenError` after a second's wait."""
        pipeline = self._free.pop() if self._free else await self._next()
        kept = None
        try:
            if pipeline is None:
                pipeline = Pipeline(await to_thread.run_sync(self._connect))
            yield pipeline
            kept = pipeline
        finally:
            if kept is None and pipeline is not None:
                pipeline.connection.close()
            self._give_back(kept)

    def close(self) -> None:
        for at, pipeline in enumerate(self._free):
            if pipeline is not None:
                pipeline.connection.close()
                self._free[at] = None

    async def _next(self) -> Pipeline | None:
        waiter: asyncio.Future[Pipeline | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            return await asyncio.wait_for(waiter, _WAIT_SECONDS)
        except BaseException as error:
            if waiter.done() and not waiter.cancelled():
                self._give_back(waiter.result())
            if isinstance(error, TimeoutError):
                raise AllTakenError from error
            raise

    def _give_back(self, pipeline: Pipeline | None) -> None:
        if self._waiting:
            waiter = self._waiting.popleft()
            # Of this loop, in a service; tests have several.
            waiter.get_loop().call_soon_threadsafe(self._hand_over, waiter, pipeline)
        else:
            self._free.append(pipeline)

    def _hand_over(self, waiter: "asyncio.Future[Pipeline | None]", pipeline: Pipeline | None) -> None:
        if waiter.done():
            self._give_back(pipeline)
        else:
            waiter.set_result(pipeline)

    def _connect(self) -> "psycopg.Connection[Any]":
        """As the engine opens its own."""
        opened = self._engine.raw_connection()
        opened.detach()
        driver = cast("psycopg.Connection[Any]", opened.dbapi_connection)
        driver.autocommit = True
        return driver


class AllTakenError(Exception):
    """More looks are under way than there are connections for them."""


class MissedError(Exception):
    """A look could not be taken. The ordinary way finds a connection that lives, or says why there is none."""


class Look(Generic[Row]):
    """A question of one request, to be asked beside the question whose the request's key is."""

    def __init__(self, question: Question[Row], named: Mapping[str, Any], connections: LookConnections) -> None:
        self.row: Row | None = None
        """The answer, once the key was looked up; None if there is no such row, or not in the key's team."""
        self._question = question
        self._named = named
        self._connections = connections

    async def find_key(self, sha256: bytes) -> Mapping[str, Any] | None:
        """As `app.db.scope.find_key`, and answers the question too; begins no transaction. `MissedError`."""
        question = self._question
        try:
            async with self._connections.one() as pipeline:
                key, row = await pipeline.ask(
                    (ENTER_BY_KEY_NUMBERED, (API_ROLE, sha256)), (question.statement, question.values(self._named))
                )
        except (psycopg.Error, SQLAlchemyError, AllTakenError) as error:
            raise MissedError from error
        if key is None or key["team_id"] is None:
            return None
        self.row = None if row is None else question.row(row)
        return key

    def ask(self, session: Session) -> None:
        """The ordinary way, in the session's transaction, which is within the key's team."""
        self.row = self._question.ask(session, self._named)
