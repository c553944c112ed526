"""Errors of a worker, named by who must act on them.

Usage      the user's input is at fault: the job fails with this code and message
Transient  the surroundings failed: the job goes back to the queue, attempts are counted
Fatal      we are at fault: the job fails and an operator should look
"""

import errno
from typing import Literal

from app.contracts.base import Contract

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
_DISK_FULL = (
    "A disk of the worker or of the artifact store is full. The operator of the service has to make room on it; the job"
    " then goes on from its last checkpoint."
)
_SAID_NO_ROOM = tuple(f"(os error {number})" for number in sorted(_NO_ROOM))


class WorkerError(Contract):
    """What went wrong in an engine run, in words that may be shown to the user."""

    kind: Literal["usage", "transient", "fatal"]
    code: str
    message: str
    param: str | None = None


class WorkerFailure(Exception):  # noqa: N818 - the name of an outcome, not of a mistake
    """Raised inside a worker to end a run with a `WorkerError`."""

    def __init__(self, error: WorkerError) -> None:
        super().__init__(error.message)
        self.error = error

    def __reduce__(self) -> tuple[type["WorkerFailure"], tuple[WorkerError]]:
        return (type(self), (self.error,))


def usage(code: str, message: str, *, param: str | None = None) -> WorkerFailure:
    """The user must act: bad data, bad setting, something that cannot fit."""
    return WorkerFailure(WorkerError(kind="usage", code=code, message=message, param=param))


def transient(code: str, message: str) -> WorkerFailure:
    """Nobody must act: try again elsewhere or later."""
    return WorkerFailure(WorkerError(kind="transient", code=code, message=message))


def fatal(code: str, message: str) -> WorkerFailure:
    """We must act: a bug or a broken installation."""
    return WorkerFailure(WorkerError(kind="fatal", code=code, message=message))


def is_disk_full(error: BaseException) -> bool:
    """Whether a write found no room, or its user's quota used up; safetensors says so in words only."""
    if isinstance(error, OSError):
        return error.errno in _NO_ROOM
    return str(error).endswith(_SAID_NO_ROOM)


def disk_full() -> WorkerFailure:
    """There is no room for what the job writes."""
    return transient("disk_full", _DISK_FULL)


def storage_failure(error: BaseException, code: str, message: str) -> WorkerFailure:
    """Transient: `disk_full` where `error` says that there is no room, else `code` and `message`."""
    return disk_full() if is_disk_full(error) else transient(code, message)
