"""All SQL of base models."""

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.db.keyset import Page, fetch_page
from app.db.tables import BaseModelRow


class BaseRepository:
    def __init__(self, session: Session) -> None:
        self._session = session

    def find(self, base_id: str) -> BaseModelRow | None:
        return self._session.get(BaseModelRow, base_id)

    def add(self, row: BaseModelRow) -> bool:
        """False if the id was taken meanwhile."""
        values = {column.key: getattr(row, column.key) for column in BaseModelRow.__mapper__.column_attrs}
        statement = insert(BaseModelRow).values(**values).on_conflict_do_nothing().returning(BaseModelRow.id)
        return self._session.scalar(statement) is not None

    def all(self) -> list[BaseModelRow]:
        return list(self._session.scalars(select(BaseModelRow).order_by(BaseModelRow.created_at, BaseModelRow.id)))

    def page(self, *, after: str | None, limit: int) -> Page[BaseModelRow]:
        return fetch_page(
            self._session,
            BaseModelRow,
            order_by=[BaseModelRow.created_at, BaseModelRow.id],
            identity=BaseModelRow.id,
            scope=[],
            after=after,
            limit=limit,
        )

    def delete(self, row: BaseModelRow) -> bool:
        """False if jobs or tuned models refer to it."""
        try:
            with self._session.begin_nested():
                self._session.delete(row)
        except IntegrityError:
            return False
        return True
