"""Task `train_next`: there may be a job to train."""

from celery import Celery

from app.contracts.tasks import Task
from workers.tasks.rounds import Rounds


def register(celery: Celery, rounds: Rounds) -> None:
    celery.task(rounds.run, name=Task.TRAIN_NEXT.value, shared=False)  # shared ones go to every application
