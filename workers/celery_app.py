"""The Celery side of a worker: the tasks of one role, and a consumer that survives its broker."""

import warnings

from celery import Celery, platforms, signals
from celery.apps.worker import Worker

from app.broker import make_celery
from app.contracts.tasks import Queue
from workers.supervisor.identity import WorkerName
from workers.tasks import inspect_next, tick, train_next
from workers.tasks.rounds import Rounds

_REGISTER = {Queue.GPU: train_next.register, Queue.CPU: inspect_next.register, Queue.CONTROL: tick.register}


def make_worker_app(redis_url: str, role: Queue, rounds: Rounds) -> Celery:
    """An application that knows the tasks of `role` and no others."""
    celery = make_celery(redis_url)
    celery.conf.update(
        worker_enable_remote_control=False,  # nothing is steered by broadcasts: cancel is a column
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry=True,
    )
    _REGISTER[role](celery, rounds)
    return celery


def _keep_our_logging(**_: object) -> None:
    """Celery sets up no logging where somebody else says to do it."""


signals.setup_logging.connect(_keep_our_logging)


class _RoleWorker(Worker):  # type: ignore[misc]  # celery has no types
    def install_platform_tweaks(self, worker: Worker) -> None:
        """Celery's signals, but a hang-up ends the worker as SIGTERM does instead of re-executing it."""
        super().install_platform_tweaks(worker)
        platforms.signals["HUP"] = platforms.signals["TERM"]


def make_consumer(celery: Celery, role: Queue, name: WorkerName) -> Worker:
    """A consumer of the role's queue with one pool thread. `start()` blocks until SIGTERM, SIGINT or SIGHUP."""
    # Celery warns root of pickled messages; this consumer takes JSON only.
    warnings.filterwarnings("ignore", category=platforms.SecurityWarning)
    return _RoleWorker(
        app=celery,
        hostname=name.worker_id,
        queues=[role.value],
        pool_cls="threads",
        concurrency=1,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        loglevel="WARNING",
        quiet=True,
    )
