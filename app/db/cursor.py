"""A cursor that describes its columns only to who looks at them.

The driver makes an object for each column of each answer. SQLAlchemy asks for the description every time, only to see
whether there are rows, and remembers the columns of a statement itself: for a wide table that was a tenth of a request.
"""

from collections.abc import Sequence
from typing import Any, overload

import psycopg
from psycopg import Column


class LazyCursor(psycopg.Cursor[Any]):
    """Psycopg's, but for `description`."""

    @property
    def description(self) -> "Sequence[Column] | None":  # type: ignore[override]  # a list is asked for less than this
        """The columns of the current answer; None if it has no rows."""
        result = self.pgresult
        if result is None or not result.nfields:
            return super().description
        return _Columns(self, result.nfields)


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
