"""The life of a job as one table: (status, event) -> status. Anything not listed is refused."""

from enum import StrEnum


class Status(StrEnum):
    """As on the wire; `paused` is the only one outside OpenAI's enumeration (its spec shows it)."""

    VALIDATING_FILES = "validating_files"
    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class JobPurpose(StrEnum):
    """What a job of the pool is for. Both live by the same table."""

    TRAINING = "training"
    EVALUATION = "evaluation"


class Event(StrEnum):
    """What can happen to a job. The first three come from its owner, the rest from workers."""

    CANCEL = "cancel"
    PAUSE = "pause"
    RESUME = "resume"
    VALIDATE = "validate"
    """The files are good."""
    CLAIM = "claim"
    CONTINUE = "continue"
    """A worker that still holds the lease goes on."""
    SUCCEED = "succeed"
    FAIL = "fail"
    REQUEUE = "requeue"
    """The worker let go, died or was lost; the work is not done."""


class IllegalTransition(Exception):  # noqa: N818 - named after what it is
    """The event means nothing in this status."""

    def __init__(self, status: Status, event: Event) -> None:
        super().__init__(f"a job that is {status} cannot take the event {event}")
        self.status = status
        self.event = event


TERMINAL = frozenset({Status.SUCCEEDED, Status.FAILED, Status.CANCELLED})

_S, _E = Status, Event

TRANSITIONS: dict[tuple[Status, Event], Status] = {
    (_S.VALIDATING_FILES, _E.CANCEL): _S.CANCELLED,
    (_S.VALIDATING_FILES, _E.PAUSE): _S.PAUSED,
    (_S.VALIDATING_FILES, _E.RESUME): _S.VALIDATING_FILES,
    (_S.VALIDATING_FILES, _E.VALIDATE): _S.QUEUED,
    (_S.VALIDATING_FILES, _E.FAIL): _S.FAILED,
    (_S.VALIDATING_FILES, _E.REQUEUE): _S.VALIDATING_FILES,
    (_S.QUEUED, _E.CANCEL): _S.CANCELLED,
    (_S.QUEUED, _E.PAUSE): _S.PAUSED,
    (_S.QUEUED, _E.RESUME): _S.QUEUED,
    (_S.QUEUED, _E.CLAIM): _S.RUNNING,
    # Paused and resumed before its worker let go: the worker may go on, finish or fail.
    (_S.QUEUED, _E.CONTINUE): _S.RUNNING,
    (_S.QUEUED, _E.SUCCEED): _S.SUCCEEDED,
    (_S.QUEUED, _E.FAIL): _S.FAILED,
    (_S.QUEUED, _E.REQUEUE): _S.QUEUED,
    (_S.RUNNING, _E.CANCEL): _S.CANCELLED,
    (_S.RUNNING, _E.PAUSE): _S.PAUSED,
    (_S.RUNNING, _E.RESUME): _S.RUNNING,
    (_S.RUNNING, _E.CONTINUE): _S.RUNNING,
    (_S.RUNNING, _E.SUCCEED): _S.SUCCEEDED,
    (_S.RUNNING, _E.FAIL): _S.FAILED,
    (_S.RUNNING, _E.REQUEUE): _S.QUEUED,
    (_S.PAUSED, _E.CANCEL): _S.CANCELLED,
    (_S.PAUSED, _E.PAUSE): _S.PAUSED,
    # To `validating_files` instead if its files were never validated: see `resumed`.
    (_S.PAUSED, _E.RESUME): _S.QUEUED,
    (_S.PAUSED, _E.VALIDATE): _S.PAUSED,
    # The pause came after the last step: the work is done, and saying so is the truth.
    (_S.PAUSED, _E.SUCCEED): _S.SUCCEEDED,
    (_S.PAUSED, _E.FAIL): _S.FAILED,
    (_S.PAUSED, _E.REQUEUE): _S.PAUSED,
    # What a worker says about a cancelled job changes no status.
    (_S.CANCELLED, _E.CANCEL): _S.CANCELLED,
    (_S.CANCELLED, _E.VALIDATE): _S.CANCELLED,
    (_S.CANCELLED, _E.SUCCEED): _S.CANCELLED,
    (_S.CANCELLED, _E.FAIL): _S.CANCELLED,
    (_S.CANCELLED, _E.REQUEUE): _S.CANCELLED,
}


def after(status: Status, event: Event) -> Status:
    """The status that follows; `IllegalTransition` if there is none."""
    try:
        return TRANSITIONS[status, event]
    except KeyError:
        raise IllegalTransition(status, event) from None


def resumed(status: Status, *, is_validated: bool) -> Status:
    """The status after a resume: a job paused before its files were checked has them checked first."""
    following = after(status, Event.RESUME)
    return Status.VALIDATING_FILES if following is Status.QUEUED and not is_validated else following
