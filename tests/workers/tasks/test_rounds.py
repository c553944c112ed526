import threading

import pytest
from sqlalchemy.exc import OperationalError

from app.contracts.tasks import RINGS, Queue, Task
from workers.celery_app import make_worker_app
from workers.supervisor.engine_process import EngineLost
from workers.tasks.rounds import Rounds

SECONDS = 10.0


def quiet_rounds(work, shutdown: threading.Event) -> Rounds:
    """One first round, then only what the test asks for."""
    return Rounds(work, period_seconds=3600, shutdown=shutdown)


@pytest.mark.parametrize("role", list(Queue))
def test_a_worker_knows_the_task_of_its_role_and_no_other(role: Queue) -> None:
    celery = make_worker_app("redis://localhost:1", role, quiet_rounds(lambda: None, threading.Event()))
    ours = {name for name in celery.tasks if name.startswith("tunesmith.")}
    assert ours == {RINGS[role].value}


def test_every_task_name_belongs_to_one_role() -> None:
    assert sorted(RINGS.values()) == sorted(Task)
    assert sorted(RINGS) == sorted(Queue)


def test_the_first_round_needs_no_bell() -> None:
    began = threading.Event()
    with quiet_rounds(began.set, threading.Event()):
        assert began.wait(SECONDS)


def test_rounds_are_repeated_without_any_bell() -> None:
    rounds = threading.Semaphore(0)
    with Rounds(rounds.release, period_seconds=0.01, shutdown=threading.Event()):
        assert all(rounds.acquire(timeout=SECONDS) for _ in range(3))


def test_a_bell_during_a_round_starts_another_one_after_it() -> None:
    began, may_end, ended = threading.Semaphore(0), threading.Event(), []

    def work() -> None:
        began.release()
        may_end.wait(SECONDS)
        ended.append(1)

    with quiet_rounds(work, threading.Event()) as rounds:
        assert began.acquire(timeout=SECONDS)
        bell = threading.Thread(target=rounds.run)
        bell.start()
        assert not ended
        may_end.set()
        bell.join(SECONDS)
        assert len(ended) == 2


@pytest.mark.parametrize(
    "error", [OperationalError("SELECT 1", {}, ConnectionError("away")), EngineLost("gone"), ValueError("a bug")]
)
def test_an_error_in_a_round_does_not_end_the_worker(error: Exception) -> None:
    calls = []

    def work() -> None:
        calls.append(1)
        raise error

    with quiet_rounds(work, threading.Event()) as rounds:
        rounds.run()
        rounds.run()
    assert len(calls) >= 2


def test_no_round_begins_after_the_shutdown() -> None:
    calls: list[int] = []
    shutdown = threading.Event()
    with quiet_rounds(lambda: calls.append(1), shutdown) as rounds:
        shutdown.set()
        before = len(calls)
        rounds.run()
        assert len(calls) <= max(before, 1)
