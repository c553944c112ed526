"""Many questions at once on one connection, each of statements that go out together and are one transaction.

In libpq's own words (https://www.postgresql.org/docs/current/libpq-pipeline-mode.html), by psycopg's wrapper of it.
Statements are prepared once. Answers come in the order of the questions and are waited for in the event loop: they take
no thread, and a turn of the loop reads all that have come.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.adapt import Transformer
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGresult

Statement = bytes
"""SQL with `$1`, `$2` …"""
Row = dict[str, Any]
_TEXT, _BINARY = 0, 1


@dataclass
class _Question:
    """One that was sent, up to its end in the pipeline."""

    statements: tuple[Statement, ...]
    answer: "asyncio.Future[list[Row | None]]"
    results: list[PGresult] = field(default_factory=list)
    error: str | None = None


class Pipeline:
    """Takes a connection over, for the tasks of one event loop."""

    def __init__(self, connection: "psycopg.Connection[Any]", loop: asyncio.AbstractEventLoop) -> None:
        self.connection = connection
        self.loop = loop
        self._libpq = connection.pgconn
        self._libpq.nonblocking = 1
        self._libpq.enter_pipeline_mode()
        self._socket = self._libpq.socket
        self._asked: deque[_Question] = deque()
        self._names: dict[Statement, bytes] = {}
        self._columns: dict[Statement, list[str]] = {}
        loop.add_reader(self._socket, self._read)

    async def ask(self, *statements: tuple[Statement, Sequence[str | bytes]]) -> list[Row | None]:
        """The first row of each by its columns, or None.

        If one fails nothing of all happens: `psycopg.OperationalError`, here and for all asked meanwhile.
        """
        question = _Question(tuple(one for one, _ in statements), self.loop.create_future())
        try:
            for statement, values in statements:
                self._send(statement, values)
            self._libpq.pipeline_sync()
            self._asked.append(question)
            self._flush()
        except psycopg.Error as error:
            self._fail(error)
            raise
        return await question.answer

    def close(self) -> None:
        """Nobody may be waiting. Its loop may be over."""
        if not self.loop.is_closed():
            self.loop.remove_reader(self._socket)
            self.loop.remove_writer(self._socket)
        self.connection.close()

    def _send(self, statement: Statement, values: Sequence[str | bytes]) -> None:
        name = self._names.get(statement)
        if name is None:
            name = self._names[statement] = b"look_%d" % len(self._names)
            self._libpq.send_prepare(name, statement)
        given = [value.encode() if isinstance(value, str) else value for value in values]
        formats = [_TEXT if isinstance(value, str) else _BINARY for value in values]
        self._libpq.send_query_prepared(name, given, formats)

    def _flush(self) -> None:
        """Send what is left as soon as the other end takes it."""
        if self._libpq.flush():
            self.loop.add_writer(self._socket, self._write)

    def _write(self) -> None:
        self.loop.remove_writer(self._socket)
        try:
            self._flush()
        except psycopg.Error as error:
            self._fail(error)

    def _read(self) -> None:
        try:
            self._libpq.consume_input()
            while self._asked and not self._libpq.is_busy():
                result = self._libpq.get_result()
                # None stands between two statements.
                if result is not None:
                    self._take(result)
        except psycopg.Error as error:
            self._fail(error)

    def _take(self, result: PGresult) -> None:
        question = self._asked[0]
        if result.status == ExecStatus.TUPLES_OK:
            question.results.append(result)
        elif result.status == ExecStatus.PIPELINE_SYNC:
            self._asked.popleft()
            self._answer(question)
        elif result.status not in {ExecStatus.COMMAND_OK, ExecStatus.PIPELINE_ABORTED}:
            question.error = result.error_message.decode(errors="replace")

    def _answer(self, question: _Question) -> None:
        if question.error is not None:
            # What was to be prepared behind the error is not: nobody goes on with such a connection.
            self._asked.appendleft(question)
            self._fail(psycopg.OperationalError(question.error))
            return
        if question.answer.done():
            return  # whoever asked was cancelled
        pairs = zip(question.statements, question.results, strict=True)
        question.answer.set_result([self._first_row(statement, result) for statement, result in pairs])

    def _first_row(self, statement: Statement, result: PGresult) -> Row | None:
        if not result.ntuples:
            return None
        columns = self._columns.get(statement)
        if columns is None:
            columns = self._columns[statement] = [(result.fname(at) or b"").decode() for at in range(result.nfields)]
        transformer = Transformer(self.connection)
        transformer.set_pgresult(result)
        return dict(zip(columns, transformer.load_row(0, tuple) or (), strict=True))

    def _fail(self, error: psycopg.Error) -> None:
        """The connection is lost, and with it all that was asked on it."""
        self.close()
        asked, self._asked = self._asked, deque()
        for question in asked:
            if not question.answer.done():
                question.answer.set_exception(psycopg.OperationalError(str(error)))
