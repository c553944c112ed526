"""A cursor that describes its columns only to who looks at them, and never leaves a pipeline open.

The driver makes an object for each column of each answer. SQLAlchemy asks for the description every time, only to see
whether there are rows, and remembers the columns of a statement itself: for a wide table that was a tenth of a request.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, overload

import psycopg
from psycopg import Column


class LazyCursor(psycopg.Cursor[Any]):
    """Psycopg's, but for `description` and `executemany`."""

    @property
    def description(self) -> "Sequence[Column] | None":  # type: ignore[override]  # a list is asked for less than this
        """The columns of the current answer; None if it has no rows."""
        result = self.pgresult
        if result is None or not result.nfields:
            return super().description
        return _Columns(self, result.nfields)

    def executemany(  # type: ignore[override]  # plain text and values are all that SQLAlchemy sends
        self, query: str, params_seq: Iterable[Sequence[Any] | Mapping[str, Any]]
    ) -> None:
        """One after the other; `rowcount` is that of all.

        The driver would send them down a pipeline. Who stands still in the middle of one is at work in the eyes of the
        database, which then never ends the transaction, whatever `idle_in_transaction_session_timeout` says: a worker
        that was suspended there held its locks, and with them the end of its own lease, for as long as it was.
        """
        total = 0
        for params in params_seq:
            self.execute(query, params)
            total += max(0, self.rowcount)
        self._rowcount = total


class _Columns(Sequence[Column]):
    def __init__(self, cursor: LazyCursor, count: int) -> None:
        self._cursor = cursor
        self._count = count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Column: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Column]: ...

    def __getitem__(self, index: int | slice) -> Column | Sequence[Column]:
        if isinstance(index, slice):
            return [self[one] for one in range(self._count)[index]]
        return Column(self._cursor, range(self._count)[index])
