"""Pages by key, not by offset: stable while rows come and go, and as fast on page 1000 as on page 1."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, select, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session

from app.db.base import Base

Row = TypeVar("Row", bound=Base)


@dataclass(frozen=True)
class Page(Generic[Row]):
    """Some rows of a longer list."""

    rows: list[Row]
    has_more: bool


def fetch_page(
    session: Session,
    model: type[Row],
    *,
    order_by: Sequence[InstrumentedAttribute[Any]],
    identity: InstrumentedAttribute[str] | InstrumentedAttribute[int],
    scope: Sequence[ColumnElement[bool]],
    where: Sequence[ColumnElement[bool]] = (),
    after: str | int | None = None,
    limit: int,
    ascending: bool = False,
) -> Page[Row]:
    """Rows of `scope` and `where` in the order of `order_by` (whose last column is unique), newest first.

    `scope` is what the caller may see at all (his team); a cursor outside it, or unknown, gives an empty
    page. `where` narrows further, and a cursor row may have left it since (a file deleted between two
    pages), without losing the place.
    """
    statement = select(model).where(*scope, *where)
    if after is not None:
        position = session.execute(select(*order_by).where(identity == after, *scope)).first()
        if position is None:
            return Page([], has_more=False)
        key = tuple_(*order_by)
        statement = statement.where(key > tuple_(*position) if ascending else key < tuple_(*position))
    directed = [column.asc() if ascending else column.desc() for column in order_by]
    rows = list(session.scalars(statement.order_by(*directed).limit(limit + 1)))
    return Page(rows[:limit], has_more=len(rows) > limit)
