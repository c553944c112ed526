"""Task `tick`: look for expired leases and for work nobody was told of."""

from celery import Celery

from app.contracts.tasks import Task
from workers.tasks.rounds import Rounds


def register(celery: Celery, rounds: Rounds) -> None:
    celery.task(rounds.run, name=Task.TICK.value, shared=False)  # shared ones go to every application
