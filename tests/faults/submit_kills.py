"""G4: the API dies by kill -9 between any two statements of "create a job", and the client asks again.

`python -m tests.faults.submit_kills COUNT FILE_ID` runs in a process without threads, so that each trial can be a fork
of it: an API of its own that answers one request, or dies at its n-th point: before or after a statement, before its
commit, before or after its bell.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from http import HTTPStatus

import psycopg
from sqlalchemy import event

from app.settings import Settings, load_settings, to_environment
from tests.support.house import REPOSITORY

_TRIES = 3


def run(settings: Settings, *, key: str, file_id: str, count: int) -> dict[str, object]:
    """`count` trials; {"trials", "points", "answered", "wrong": […]}."""
    command = [sys.executable, "-m", "tests.faults.submit_kills", str(count), file_id]
    environment = {**os.environ, **to_environment(settings), "PYTHONPATH": str(REPOSITORY), "SUBMIT_KEY": key}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, cwd=REPOSITORY)
    return dict(json.loads(done.stdout.splitlines()[-1]))


class Bomb:
    """Counts the points passed; at the one it is set to, the process is gone."""

    def __init__(self, at: int | None) -> None:
        self.passed = 0
        self._at = at

    def __call__(self, *_: object, **__: object) -> None:
        if self.passed == self._at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.passed += 1


def _post(file_id: str, idempotency_key: str, bomb: Bomb) -> dict[str, object]:
    """One request to an API of this process."""
    # A fork imports nothing anew; the parent has imported all of it.
    from fastapi.testclient import TestClient  # noqa: PLC0415

    from app.broker import CeleryBroker  # noqa: PLC0415
    from app.context import open_context  # noqa: PLC0415
    from app.main import create_app  # noqa: PLC0415

    context = open_context(load_settings())
    event.listen(context.database.engine, "before_cursor_execute", bomb)
    event.listen(context.database.engine, "after_cursor_execute", bomb)
    event.listen(context.database.engine, "commit", bomb)
    ring = CeleryBroker.ring

    def ring_and_pass(broker: CeleryBroker, queue: object) -> None:
        bomb()
        ring(broker, queue)  # type: ignore[arg-type]
        bomb()

    CeleryBroker.ring = ring_and_pass  # type: ignore[method-assign]
    with TestClient(create_app(context, closes_context=True)) as client:
        answer = client.post(
            "/v1/fine_tuning/jobs",
            json={"model": "tiny", "training_file": file_id, "seed": 7},
            headers={"authorization": f"Bearer {os.environ['SUBMIT_KEY']}", "idempotency-key": idempotency_key},
        )
    return {"status": answer.status_code, "body": answer.json(), "points": bomb.passed}


def _in_fork(verb: Callable[[], dict[str, object]]) -> dict[str, object] | None:
    """What `verb` gives in a process of its own; None if that was killed."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        try:
            os.write(writing, json.dumps(verb()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    os.waitpid(pid, 0)
    return json.loads(said) if said else None


def _trials(count: int, file_id: str) -> Iterator[tuple[int, bool, str | None]]:
    """(point, whether the first request was answered, what is wrong) of each trial."""
    whole = _in_fork(lambda: _post(file_id, "whole", Bomb(None)))
    assert whole is not None, "the API does not start"
    assert whole["status"] == 200, whole
    points = int(str(whole["points"]))
    yield points, True, None
    for number in range(count):
        at, key = number % points, f"trial-{number}"
        before = _jobs()
        first = _in_fork(lambda at=at, key=key: _post(file_id, key, Bomb(at)))  # type: ignore[misc]
        again = _ask_again(file_id, key)
        made = _jobs() - before
        wrong = None
        if again is None or again["status"] != 200:
            wrong = f"killed at point {at}: the same request again was answered {again}"
        elif len(made) != 1:
            wrong = f"killed at point {at}: {len(made)} jobs were made"
        elif {dict(again["body"])["id"]} != made:  # type: ignore[call-overload]
            wrong = f"killed at point {at}: the answer names another job"
        yield at, first is not None, wrong


def _ask_again(file_id: str, key: str) -> dict[str, object] | None:
    """As OpenAI's clients do: a 503, which a machine that stands still for seconds may give, is sent twice more."""
    for _ in range(_TRIES - 1):
        answer = _in_fork(lambda: _post(file_id, key, Bomb(None)))
        if answer is not None and answer["status"] != HTTPStatus.SERVICE_UNAVAILABLE:
            return answer
    return _in_fork(lambda: _post(file_id, key, Bomb(None)))


def _jobs() -> set[str]:
    with psycopg.connect(load_settings().database_url.get_secret_value()) as connection:
        return {str(row[0]) for row in connection.execute("SELECT id FROM jobs")}


def main() -> int:
    count, file_id = int(sys.argv[1]), sys.argv[2]
    # Once, before the first fork.
    import fastapi.testclient  # noqa: F401, PLC0415

    import app.main  # noqa: F401, PLC0415

    (points, _, _), *trials = _trials(count, file_id)
    found = {
        "trials": len(trials),
        "points": points,
        "answered": sum(answered for _, answered, _ in trials),
        "wrong": [wrong for _, _, wrong in trials if wrong is not None],
    }
    sys.stdout.write(json.dumps(found) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
