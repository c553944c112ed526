"""The doorbell: tells a queue that there may be work. A lost ring costs latency, never a job."""

from typing import Protocol

from celery import Celery
from kombu.exceptions import OperationalError

from app.contracts.tasks import RINGS, Queue
from app.logs import logger

# Short on purpose: a request must not hang because Redis is away. The control role rings again.
_TRANSPORT = {
    "visibility_timeout": 3600,
    "socket_keepalive": True,
    "health_check_interval": 25,
    "socket_connect_timeout": 1.0,
    "socket_timeout": 5.0,
    "max_retries": 1,
}


class Broker(Protocol):
    def ring(self, queue: Queue) -> None:
        """Wake one worker of `queue`. Never raises for an unreachable broker."""
        ...


def make_celery(redis_url: str, *, name: str = "tunesmith") -> Celery:
    """The Celery application, for sending here and for consuming in `workers`."""
    celery = Celery(name, broker=redis_url)
    celery.conf.update(
        task_acks_late=False,
        task_ignore_result=True,
        task_track_started=False,
        accept_content=["json"],
        task_serializer="json",
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,
        worker_concurrency=1,
        worker_hijack_root_logger=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options=_TRANSPORT,
        task_publish_retry=False,
        task_default_queue="unrouted",
    )
    return celery


class CeleryBroker:
    """Rings by sending an empty message to the queue."""

    def __init__(self, redis_url: str) -> None:
        self._celery = make_celery(redis_url)

    def ring(self, queue: Queue) -> None:
        try:
            self._celery.send_task(RINGS[queue].value, queue=queue.value, expires=60)
        except (OperationalError, OSError) as error:
            logger.warning("the bell of queue %s could not be rung; the control role will ring again: %s", queue, error)

    def check(self) -> None:
        """Raise `OperationalError` or `OSError` if the broker cannot be reached right now."""
        with self._celery.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0, timeout=2)

    def close(self) -> None:
        self._celery.close()
