"""Names of the Celery tasks and queues. A message carries no facts: it says "there may be work"."""

from enum import StrEnum


class Queue(StrEnum):
    """One queue per role; a worker of that role consumes it alone."""

    GPU = "gpu"
    CPU = "cpu"
    CONTROL = "control"


class Task(StrEnum):
    """Registered task names; a test compares them with what the workers register."""

    TRAIN_NEXT = "tunesmith.gpu.train_next"
    INSPECT_NEXT = "tunesmith.cpu.inspect_next"
    TICK = "tunesmith.control.tick"


RINGS: dict[Queue, Task] = {
    Queue.GPU: Task.TRAIN_NEXT,
    Queue.CPU: Task.INSPECT_NEXT,
    Queue.CONTROL: Task.TICK,
}
