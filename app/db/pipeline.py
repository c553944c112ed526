"""Statements that are prepared once and go out together: one round trip, and one transaction without a BEGIN.

In libpq's own words (https://www.postgresql.org/docs/current/libpq-pipeline-mode.html), by psycopg's wrapper of it: the
driver's pipeline asks the operating system after each statement, which took more than twice as long as Postgres did.
The answer is waited for in the event loop: it takes no thread.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg.adapt import Transformer
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGresult

Statement = bytes
"""SQL with `$1`, `$2` …"""
_TEXT, _BINARY = 0, 1


class Pipeline:
    """Takes a connection over: it is for nothing else from here on, nor for anything after an error or a cancellation.

    Not for two tasks at once.
    """

    def __init__(self, connection: "psycopg.Connection[Any]") -> None:
        self.connection = connection
        self._libpq = connection.pgconn
        self._libpq.nonblocking = 1
        self._libpq.enter_pipeline_mode()
        self._names: dict[Statement, bytes] = {}
        self._columns: dict[Statement, list[str]] = {}

    async def ask(self, *questions: tuple[Statement, Sequence[str | bytes]]) -> list[dict[str, Any] | None]:
        """The first row of each by its columns, or None.

        If one fails nothing of all happens: `psycopg.OperationalError`.
        """
        for statement, values in questions:
            self._send(statement, values)
        self._libpq.pipeline_sync()
        if self._libpq.flush():
            raise psycopg.OperationalError("the connection takes no more bytes: nobody reads at its other end")
        results = await self._results()
        return [self._first_row(statement, one) for (statement, _), one in zip(questions, results, strict=True)]

    def _send(self, statement: Statement, values: Sequence[str | bytes]) -> None:
        name = self._names.get(statement)
        if name is None:
            name = self._names[statement] = b"look_%d" % len(self._names)
            self._libpq.send_prepare(name, statement)
        given = [value.encode() if isinstance(value, str) else value for value in values]
        formats = [_TEXT if isinstance(value, str) else _BINARY for value in values]
        self._libpq.send_query_prepared(name, given, formats)

    async def _results(self) -> list[PGresult]:
        """Those with rows, up to the end of the pipeline."""
        loop, socket = asyncio.get_running_loop(), self._libpq.socket
        arrived = asyncio.Event()
        loop.add_reader(socket, arrived.set)
        try:
            found: list[PGresult] = []
            while True:
                if self._libpq.is_busy():
                    await arrived.wait()
                    arrived.clear()
                    self._libpq.consume_input()
                    continue
                result = self._libpq.get_result()
                # None stands between two statements.
                if result is None:
                    continue
                if result.status == ExecStatus.PIPELINE_SYNC:
                    return found
                if result.status == ExecStatus.TUPLES_OK:
                    found.append(result)
                elif result.status != ExecStatus.COMMAND_OK:
                    raise psycopg.OperationalError(result.error_message.decode(errors="replace"))
        finally:
            loop.remove_reader(socket)

    def _first_row(self, statement: Statement, result: PGresult) -> dict[str, Any] | None:
        if not result.ntuples:
            return None
        columns = self._columns.get(statement)
        if columns is None:
            columns = self._columns[statement] = [(result.fname(at) or b"").decode() for at in range(result.nfields)]
        transformer = Transformer(self.connection)
        transformer.set_pgresult(result)
        return dict(zip(columns, transformer.load_row(0, tuple) or (), strict=True))
