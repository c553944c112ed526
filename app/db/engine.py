"""The database and the unit of work: one request or task step, one transaction, bells after the commit."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from time import monotonic
from typing import Any

from pydantic_core import from_json
from sqlalchemy import Engine, create_engine, event, make_url
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.orm import Session

from app.broker import Broker
from app.contracts.tasks import Queue
from app.db.cursor import LazyCursor
from app.db.look import LookConnection
from app.db.scope import OWNER, Scope, ScopedSession, open_session
from app.logs import logger

# A connection that was in use so lately is taken to be alive. One that is not after all fails a request, which may be
# sent again, and takes the others with it.
_TRUSTED_SECONDS = 1.0


def driver_url(url: str) -> str:
    """The `postgresql://…` of the settings, with the driver we use."""
    return url.replace("postgresql://", "postgresql+psycopg://", 1)


class UnitOfWork:
    """A session, and what must happen after its commit and only then."""

    def __init__(self, session: Session, broker: Broker) -> None:
        self.session = session
        self._broker = broker
        self._rings: dict[Queue, None] = {}
        self._before_commit: list[Callable[[], None]] = []
        self._after_commit: list[Callable[[], None]] = []
        self._after_rollback: list[Callable[[], None]] = []

    def ring(self, queue: Queue) -> None:
        """Wake `queue` once the transaction is in; dropped on rollback. Several rings are one."""
        self._rings[queue] = None

    def before_commit(self, action: Callable[[], None]) -> None:
        """Write something at the very end of the transaction, because it locks what others wait for; once only.

        Actions run in the order in which they were asked for, after everything else was flushed.
        """
        self._before_commit.append(action)

    def on_commit(self, action: Callable[[], None]) -> None:
        """Do something outside the database (remove bytes) once the transaction is in; dropped on rollback.

        An `OSError` of `action` is logged, not raised: the transaction is already in. Whoever needs the
        action to happen for sure lets a sweep of the control role repeat it.
        """
        self._after_commit.append(action)

    def on_rollback(self, undo: Callable[[], None]) -> None:
        """Undo something outside the database (bytes just written) if the transaction does not happen."""
        self._after_rollback.append(undo)

    @property
    def is_untouched(self) -> bool:
        """Whether there is nothing to commit, to undo or to give back."""
        waits = self._rings or self._before_commit or self._after_commit or self._after_rollback
        return not waits and not self.session.in_transaction()

    def commit(self) -> None:
        """Called at the edge. Features never call it."""
        if self._before_commit:
            self.session.flush()
            actions, self._before_commit = self._before_commit, []
            for action in actions:
                action()
        if self.session.in_transaction():
            self.session.commit()
        self._after_rollback.clear()
        rings, self._rings = self._rings, {}
        for queue in rings:
            self._broker.ring(queue)
        followers, self._after_commit = self._after_commit, []
        for follow in followers:
            try:
                follow()
            except OSError:
                logger.exception("an action after the commit failed; the control role will repeat it")

    def rollback(self) -> None:
        if self.session.in_transaction():
            self.session.rollback()
        self._rings.clear()
        self._before_commit.clear()
        self._after_commit.clear()
        for undo in reversed(self._after_rollback):
            undo()
        self._after_rollback.clear()

    def close(self) -> None:
        """Give the connection back; whatever was not committed is rolled back."""
        self.rollback()
        if self.session.identity_map:
            self.session.close()


class Database:
    """The connection pool of one process.

    A process that stops in the middle of a transaction (suspended, cut off) keeps its row locks; the database ends
    such a transaction after `idle_transaction_seconds`, so that nobody waits for it longer than that.
    """

    def __init__(
        self, url: str, broker: Broker, *, pool_size: int = 10, idle_transaction_seconds: float = 30.0
    ) -> None:
        given = make_url(driver_url(url))
        limit = f"-c idle_in_transaction_session_timeout={round(1000 * idle_transaction_seconds)}"
        self.engine = create_engine(
            given,
            pool_size=pool_size,
            max_overflow=pool_size,
            pool_timeout=10,
            json_deserializer=from_json,  # several times as fast as the one of the standard library
            connect_args={
                "application_name": "tunesmith",
                "connect_timeout": 5,
                # A host that vanishes sends no reset: notice it within seconds, not at the kernel's quarter of an hour.
                "keepalives_idle": 5,
                "keepalives_interval": 2,
                "keepalives_count": 3,
                "tcp_user_timeout": 10_000,
                "cursor_factory": LazyCursor,
                "options": f"{given.query.get('options', '')} {limit}".strip(),
            },
        )
        # Rows of one table are written by one statement; other batches go one by one (`LazyCursor.executemany`).
        self.engine.dialect.use_insertmanyvalues_wo_returning = True
        _ping_idle(self.engine)
        self.looks = LookConnection(self.engine)
        self._broker = broker
        self.scope = OWNER
        """Of transactions whose opener names none."""

    def within(self, scope: Scope) -> "Database":
        """The same pool, for transactions that begin in this scope."""
        other = copy(self)
        other.scope = scope
        return other

    def open(self, scope: Scope | None = None) -> UnitOfWork:
        """A unit of work whose owner commits and closes it. Connects at the first statement."""
        session = ScopedSession(self.engine, expire_on_commit=False)
        return UnitOfWork(open_session(session, scope or self.scope), self._broker)

    @contextmanager
    def unit_of_work(self, scope: Scope | None = None) -> Iterator[UnitOfWork]:
        """Commit on the way out, roll back on any exception."""
        work = self.open(scope)
        try:
            yield work
            work.commit()
        finally:
            work.close()

    def close(self) -> None:
        self.looks.close()
        self.engine.dispose()


def _ping_idle(engine: Engine) -> None:
    """Before its use, ask a connection that lay idle whether it still lives; SQLAlchemy's own way asks each time."""

    @event.listens_for(engine, "checkin")
    def note(_: Any, record: Any) -> None:
        record.info["idle_since"] = monotonic()

    @event.listens_for(engine, "checkout")
    def check(connection: Any, record: Any, _: Any) -> None:
        since = record.info.get("idle_since")
        if since is None or monotonic() - since < _TRUSTED_SECONDS:
            return
        try:
            engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error as error:
            # The pool opens another one, and drops all that are as old.
            raise InvalidatePoolError from error
