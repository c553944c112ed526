"""The database and the unit of work: one request or task step, one transaction, bells after the commit."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from app.broker import Broker
from app.contracts.tasks import Queue


class UnitOfWork:
    """A session, and what must happen after its commit and only then."""

    def __init__(self, session: Session, broker: Broker) -> None:
        self.session = session
        self._broker = broker
        self._rings: dict[Queue, None] = {}
        self._after_rollback: list[Callable[[], None]] = []

    def ring(self, queue: Queue) -> None:
        """Wake `queue` once the transaction is in; dropped on rollback. Several rings are one."""
        self._rings[queue] = None

    def on_rollback(self, undo: Callable[[], None]) -> None:
        """Undo something outside the database (bytes just written) if the transaction does not happen."""
        self._after_rollback.append(undo)

    def commit(self) -> None:
        """Called once, at the edge. Features never call it."""
        self.session.commit()
        self._after_rollback.clear()
        for queue in self._rings:
            self._broker.ring(queue)
        self._rings.clear()

    def rollback(self) -> None:
        self.session.rollback()
        self._rings.clear()
        for undo in reversed(self._after_rollback):
            undo()
        self._after_rollback.clear()

    def close(self) -> None:
        """Give the connection back; whatever was not committed is rolled back."""
        self.rollback()
        self.session.close()


class Database:
    """The connection pool of one process."""

    def __init__(self, url: str, broker: Broker, *, pool_size: int = 10) -> None:
        self.engine = create_engine(
            url.replace("postgresql://", "postgresql+psycopg://", 1),
            pool_size=pool_size,
            max_overflow=pool_size,
            pool_pre_ping=True,
            pool_timeout=10,
            connect_args={"application_name": "tunesmith", "connect_timeout": 5},
        )
        self._broker = broker

    def open(self) -> UnitOfWork:
        """A unit of work whose owner commits and closes it. Connects at the first statement."""
        return UnitOfWork(Session(self.engine, expire_on_commit=False), self._broker)

    @contextmanager
    def unit_of_work(self) -> Iterator[UnitOfWork]:
        """Commit on the way out, roll back on any exception."""
        work = self.open()
        try:
            yield work
            work.commit()
        finally:
            work.close()

    def close(self) -> None:
        self.engine.dispose()
