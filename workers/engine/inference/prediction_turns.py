"""Predict requests in progress: each does one step a turn, so that none holds up the others or a running answer.

For the one thread that owns the models.
"""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from app.contracts.errors import WorkerError, WorkerFailure
from app.contracts.generation import ErrorLine
from app.contracts.predictions import Predictions, PredictSpec
from workers.engine.base_model import ResidentBase
from workers.engine.inference.failures import describe
from workers.engine.inference.label_rule import rule_of
from workers.engine.inference.predict import PredictionRun, open_run
from workers.engine.training.lora import AdapterWeights

_MAX_OPEN = 4


@dataclass
class PredictJob:
    """One request on its way. `deliver` is called once, from the thread that owns the models."""

    spec: PredictSpec
    deliver: Callable[[Predictions | ErrorLine], None]
    arrived: float = field(default_factory=time.monotonic)
    is_cancelled: bool = False  # set by whoever waits for the answer, seen before the next step


class PredictionTurns:
    """The requests whose texts are encoded and whose work has begun."""

    def __init__(self) -> None:
        self._open: list[tuple[PredictJob, PredictionRun]] = []

    def __len__(self) -> int:
        return len(self._open)

    @property
    def has_room(self) -> bool:
        return len(self._open) < _MAX_OPEN

    @property
    def bases(self) -> Collection[str]:
        """Hashes of the bases at work."""
        return {job.spec.base.weights_sha256 for job, _ in self._open}

    def open(self, job: PredictJob, resident: ResidentBase, adapter: AdapterWeights) -> None:
        """Encode a request's texts and let it take turns. Raises `WorkerFailure` for what cannot be predicted."""
        spec = job.spec
        rule = rule_of(spec)
        run = open_run(resident, adapter, spec.inputs, max_new_tokens=spec.max_new_tokens, rule=rule)
        self._open.append((job, run))

    def drop_cancelled(self) -> None:
        self._open = [(job, run) for job, run in self._open if not job.is_cancelled]

    def take(self) -> None:
        """One step of every request; those that are done or broke are delivered and leave."""
        self._open = [(job, run) for job, run in self._open if not _advance(job, run)]

    def end_all(self, error: WorkerError) -> None:
        for job, _ in self._open:
            job.deliver(ErrorLine(error=error))
        self._open = []


def _advance(job: PredictJob, run: PredictionRun) -> bool:
    """Whether the request is over."""
    try:
        run.step()
        if not run.is_done:
            return False
        job.deliver(run.predictions(since=job.arrived))
    except WorkerFailure as failure:
        job.deliver(ErrorLine(error=failure.error))
    except Exception as error:  # noqa: BLE001 — the command edge: one request must not end the process
        job.deliver(ErrorLine(error=describe(error)))
    return True
