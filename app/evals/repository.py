"""All SQL of evals, their runs and output items."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, aliased
from sqlalchemy.sql.functions import Function

from app.db.keyset import Page, fetch_page
from app.db.tables import Eval, EvalOutputItem, EvalRun

_OPEN = ("queued", "in_progress")
_PENDING = "pending"


class EvalRepository:
    def __init__(self, session: Session) -> None:
        self._session = session

    # As their team sees them.

    def add(self, row: Eval | EvalRun) -> None:
        self._session.add(row)
        self._session.flush()

    def delete(self, row: Eval | EvalRun) -> None:
        """With everything that hangs on it."""
        self._session.delete(row)
        self._session.flush()

    def flush(self) -> None:
        self._session.flush()

    def find(self, team_id: str, eval_id: str, *, lock: bool = False) -> Eval | None:
        query = select(Eval).where(Eval.id == eval_id, Eval.team_id == team_id)
        return self._session.scalar(query.with_for_update() if lock else query)

    def page(self, team_id: str, *, by_update: bool, after: str | None, limit: int, ascending: bool) -> Page[Eval]:
        return fetch_page(
            self._session,
            Eval,
            order_by=[Eval.updated_at if by_update else Eval.created_at, Eval.id],
            identity=Eval.id,
            scope=[Eval.team_id == team_id],
            after=after,
            limit=limit,
            ascending=ascending,
        )

    def find_run(self, team_id: str, eval_id: str, run_id: str, *, lock: bool = False) -> EvalRun | None:
        query = select(EvalRun).where(EvalRun.id == run_id, EvalRun.eval_id == eval_id, EvalRun.team_id == team_id)
        if lock:
            query = query.with_for_update().execution_options(populate_existing=True)
        return self._session.scalar(query)

    def runs(
        self, eval_id: str, *, status: str | None, after: str | None, limit: int, ascending: bool
    ) -> Page[EvalRun]:
        return fetch_page(
            self._session,
            EvalRun,
            order_by=[EvalRun.created_at, EvalRun.id],
            identity=EvalRun.id,
            scope=[EvalRun.eval_id == eval_id],
            where=[] if status is None else [EvalRun.status == status],
            after=after,
            limit=limit,
            ascending=ascending,
        )

    def find_item(self, run_id: str, item_id: str) -> EvalOutputItem | None:
        """An item that is done."""
        return self._session.scalar(
            select(EvalOutputItem).where(
                EvalOutputItem.id == item_id, EvalOutputItem.run_id == run_id, EvalOutputItem.status != _PENDING
            )
        )

    def items(
        self, run_id: str, *, status: str | None, after: str | None, limit: int, ascending: bool
    ) -> Page[EvalOutputItem]:
        """Those that are done, in the order of the data."""
        return fetch_page(
            self._session,
            EvalOutputItem,
            order_by=[EvalOutputItem.position],
            identity=EvalOutputItem.id,
            scope=[EvalOutputItem.run_id == run_id],
            where=[EvalOutputItem.status != _PENDING if status is None else EvalOutputItem.status == status],
            after=after,
            limit=limit,
            ascending=ascending,
        )

    # Leases. Every worker's write begins with `lock_held`; the row stays locked until it is committed.

    def lock_next(self) -> EvalRun | None:
        """The run to take up next, locked: of the team served longest ago its run served longest ago."""
        others = aliased(EvalRun)
        served = select(func.max(others.claimed_at)).where(others.team_id == EvalRun.team_id).scalar_subquery()
        return self._session.scalar(
            select(EvalRun)
            .where(EvalRun.status.in_(_OPEN), _claimable())
            .order_by(served.asc().nulls_first(), EvalRun.claimed_at.asc().nulls_first(), EvalRun.created_at)
            .limit(1)
            .with_for_update(skip_locked=True)
            .execution_options(populate_existing=True)
        )

    def lock_held(self, run_id: str, fence: int) -> EvalRun | None:
        return self._session.scalar(
            select(EvalRun)
            .where(EvalRun.id == run_id, EvalRun.fence == fence, EvalRun.owner.is_not(None))
            .with_for_update()
            .execution_options(populate_existing=True)
        )

    def lock_of_worker(self, worker_id: str, *, but_not: str) -> Sequence[EvalRun]:
        """Runs leased to this worker under another owner name than `but_not`, locked."""
        return self._session.scalars(
            select(EvalRun)
            .where(EvalRun.owner.startswith(f"{worker_id}/", autoescape=True), EvalRun.owner != but_not)
            .with_for_update()
            .execution_options(populate_existing=True)
        ).all()

    def find_eval_of(self, run: EvalRun) -> Eval:
        return self._session.get_one(Eval, run.eval_id)

    def has_claimable(self) -> bool:
        query = select(EvalRun.id).where(EvalRun.status.in_(_OPEN), _claimable()).limit(1)
        return self._session.scalar(query) is not None

    def now(self) -> Function[datetime]:
        """The database's clock, for columns that are set to it."""
        return func.clock_timestamp()

    def now_plus(self, seconds: float) -> ColumnElement[datetime]:
        return func.clock_timestamp() + timedelta(seconds=seconds)

    # Items, as their worker sees them.

    def add_items(self, rows: Sequence[dict[str, Any]]) -> None:
        """Rows whose position is there already are left as they are."""
        if rows:
            statement = insert(EvalOutputItem).on_conflict_do_nothing(index_elements=["run_id", "position"])
            self._session.execute(statement, rows)

    def pending(self, run_id: str, *, from_position: int, limit: int) -> Sequence[EvalOutputItem]:
        return self._session.scalars(
            select(EvalOutputItem)
            .where(
                EvalOutputItem.run_id == run_id,
                EvalOutputItem.status == _PENDING,
                EvalOutputItem.position >= from_position,
            )
            .order_by(EvalOutputItem.position)
            .limit(limit)
        ).all()

    def finish_item(self, run_id: str, item_id: str, **values: Any) -> bool:
        """Write an outcome; False if the item has one already."""
        statement = (
            update(EvalOutputItem)
            .where(EvalOutputItem.id == item_id, EvalOutputItem.run_id == run_id, EvalOutputItem.status == _PENDING)
            .values(created_at=func.clock_timestamp(), **values)
            .returning(EvalOutputItem.id)
            .execution_options(synchronize_session=False)
        )
        return self._session.scalar(statement) is not None


def _claimable() -> ColumnElement[bool]:
    """Nobody holds the lease, and any back-off is over; by the database's clock."""
    now = func.clock_timestamp()
    return and_(
        or_(EvalRun.owner.is_(None), EvalRun.lease_until < now),
        or_(EvalRun.not_before.is_(None), EvalRun.not_before <= now),
    )
