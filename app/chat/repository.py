"""All SQL of stored completions."""

from collections.abc import Mapping, Sequence

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from app.db.keyset import Page, fetch_page
from app.db.tables.stored_completions import StoredCompletion


class StoredCompletionRepository:
    """Rows of one team at a time."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, row: StoredCompletion) -> None:
        self._session.add(row)
        self._session.flush()

    def get(self, team_id: str, completion_id: str, *, lock: bool = False) -> StoredCompletion | None:
        query = select(StoredCompletion).where(
            StoredCompletion.team_id == team_id, StoredCompletion.id == completion_id
        )
        return self._session.scalars(query.with_for_update() if lock else query).one_or_none()

    def page(
        self,
        team_id: str,
        *,
        model: str | None,
        metadata: Mapping[str, str],
        after: str | None,
        limit: int,
        ascending: bool,
    ) -> Page[StoredCompletion]:
        """Those of one model and with all these metadata pairs, where asked for."""
        where = [] if model is None else [StoredCompletion.model == model]
        if metadata:
            where.append(StoredCompletion.user_metadata.contains(dict(metadata)))
        return fetch_page(
            self._session,
            StoredCompletion,
            order_by=[StoredCompletion.created_at, StoredCompletion.id],
            identity=StoredCompletion.id,
            scope=[StoredCompletion.team_id == team_id],
            where=where,
            after=after,
            limit=limit,
            ascending=ascending,
        )

    def between(
        self,
        team_id: str,
        *,
        model: str | None,
        metadata: Mapping[str, str],
        created_after: int | None,
        created_before: int | None,
        limit: int,
    ) -> Sequence[StoredCompletion]:
        """The oldest `limit` of those created in a span of Unix seconds, both ends inclusive."""
        where = [StoredCompletion.team_id == team_id]
        if model is not None:
            where.append(StoredCompletion.model == model)
        if metadata:
            where.append(StoredCompletion.user_metadata.contains(dict(metadata)))
        if created_after is not None:
            where.append(StoredCompletion.created_at >= func.to_timestamp(created_after))
        if created_before is not None:
            where.append(StoredCompletion.created_at < func.to_timestamp(created_before + 1))
        query = select(StoredCompletion).where(*where).order_by(StoredCompletion.created_at, StoredCompletion.id)
        return self._session.scalars(query.limit(limit)).all()

    def delete(self, team_id: str, completion_id: str) -> bool:
        """Whether there was such a row."""
        deleted = self._session.execute(
            delete(StoredCompletion)
            .where(StoredCompletion.team_id == team_id, StoredCompletion.id == completion_id)
            .returning(StoredCompletion.id)
        )
        return deleted.one_or_none() is not None
