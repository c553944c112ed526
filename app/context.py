"""What one process holds for its whole life: settings, database, bytes, bell and clock."""

from dataclasses import dataclass

from app.artifacts.base import ArtifactStore
from app.artifacts.open import open_store
from app.broker import CeleryBroker
from app.clock import Clock, SystemClock
from app.db.engine import Database
from app.recent import Recent
from app.settings import Settings


@dataclass(frozen=True)
class Context:
    """Built once at start-up, passed down, closed at the end."""

    settings: Settings
    database: Database
    artifacts: ArtifactStore
    broker: CeleryBroker
    clock: Clock
    recent: Recent

    def close(self) -> None:
        self.database.close()
        self.broker.close()


def open_context(settings: Settings) -> Context:
    """The context of a real process."""
    broker = CeleryBroker(settings.redis_url.get_secret_value())
    database = Database(
        settings.database_url.get_secret_value(),
        broker,
        pool_size=settings.database_pool_size,
        # The locks of a worker that stands still are gone before its lease is.
        idle_transaction_seconds=settings.lease_seconds / 2,
    )
    return Context(
        settings=settings,
        database=database,
        artifacts=open_store(settings.artifacts_url, endpoint_url=settings.s3_endpoint_url),
        broker=broker,
        clock=SystemClock(),
        recent=Recent(settings.shared_look_seconds),
    )
