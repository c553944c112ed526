"""Task `inspect_next`: there may be files to inspect."""

from celery import Celery

from app.contracts.tasks import Task
from workers.tasks.rounds import Rounds


def register(celery: Celery, rounds: Rounds) -> None:
    celery.task(rounds.run, name=Task.INSPECT_NEXT.value, shared=False)  # shared ones go to every application
